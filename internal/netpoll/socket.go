package netpoll

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Recv reads bytes that have arrived into p, which must not be empty, and returns their number. It
// returns 0 and no error if none have arrived, and io.EOF after the peer's last byte. Other errors
// are errnos of recv(2).
func Recv(fd int, p []byte) (int, error) { return recv(fd, p, 0) }

// Peek does what Recv does, but leaves the bytes in the socket: the next call returns them again.
func Peek(fd int, p []byte) (int, error) { return recv(fd, p, unix.MSG_PEEK) }

// recv and Send call recvfrom and sendto, which take a shorter path through the kernel than read
// and write: see BenchmarkSystemCalls and docs/measurements.md.
func recv(fd int, p []byte, flags int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM,
			uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags), 0, 0)
		switch {
		case errno == 0 && n == 0:
			return 0, io.EOF
		case errno == 0:
			return int(n), nil
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// Send writes p, which must not be empty, and returns the number of bytes that the kernel accepted.
// It returns 0 and no error if the socket has no room. Errors are errnos of send(2).
func Send(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO,
			uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// Writable reports whether a third of a socket's send buffer is free, which is when poll(2) reports
// POLLOUT (sk_stream_is_writeable in the kernel).
func Writable(fd int) bool {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL,
			uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&unix.Timespec{})), 0, 0, 0)
		if errno != unix.EINTR {
			return errno == 0 && n == 1
		}
	}
}

// Widen enlarges the receive buffer of a socket, so that the peer can send more although its
// earlier bytes are still unread.
//
// The kernel merges segments, and frees the memory of merged segments only when all their bytes are
// read. A few unread bytes can therefore fill the whole receive buffer, and the receive window
// stays closed. Raising SO_RCVLOWAT makes the kernel enlarge the buffer (tcp_set_rcvlowat). Unlike
// SO_RCVBUF, it does not disable the kernel's tuning of the buffer size. The poller may report the
// socket as readable once more.
func Widen(fd int) {
	const enough = 1 << 20 // bytes; more than merged segments can hold
	for _, n := range []int{enough, 1} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
	}
}

// ErrExhausted means that a connection could not be accepted because the process or the system has
// no free descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection stays in the
// backlog.
var ErrExhausted = errors.New("out of descriptors or memory")

// AcceptFrom accepts a connection from a listening socket. It returns the descriptor, which is
// non-blocking, and the address of the peer, which is the zero AddrPort for a unix socket. If no
// connection is waiting, the descriptor is -1 and the error is nil. If accept4(2) fails, the
// descriptor is -1 and the error is ErrExhausted or the errno.
func AcceptFrom(listener int) (int, netip.AddrPort, error) {
	for {
		var from unix.RawSockaddrAny
		size := uint32(unsafe.Sizeof(from))
		fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4,
			uintptr(listener), uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(fd), addressOf(&from), nil
		case unix.EAGAIN:
			return -1, netip.AddrPort{}, nil
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			return -1, netip.AddrPort{}, ErrExhausted
		case unix.EINTR:
		default:
			return -1, netip.AddrPort{}, errno
		}
	}
}

// FailedInBacklog reports whether an error of AcceptFrom concerns the connection that it took from
// the backlog, not the listening socket. The caller may accept the next connection at once.
// accept(2) lists most of these errors.
func FailedInBacklog(err error) bool {
	switch err {
	case unix.ECONNABORTED, unix.ECONNRESET, unix.ETIMEDOUT, unix.EPROTO, unix.EPERM, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}

// addressOf returns the IP address and the port in a socket address, or the zero AddrPort for a
// unix socket.
func addressOf(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), networkOrder(in4.Port))
	case unix.AF_INET6:
		in6 := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in6.Addr).Unmap(), networkOrder(in6.Port))
	}
	return netip.AddrPort{}
}

// ShutdownWrite closes our side of a connection: after the bytes that were sent, the peer reads the
// end of the input. The error is the errno of shutdown(2): the socket is not connected any more.
func ShutdownWrite(fd int) error {
	if _, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); errno != 0 {
		return errno
	}
	return nil
}

// Close closes a socket. It ignores the error of close(2), since the kernel frees the descriptor in
// any case. Another goroutine may get the same descriptor at once.
func Close(fd int) {
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Prepare sets the options of an accepted socket on one that another package has opened: it makes
// the socket non-blocking, and sets TCP_NODELAY unless it is a unix socket.
func Prepare(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == unix.EOPNOTSUPP || err == unix.ENOPROTOOPT { // a unix socket
		err = nil
	}
	return err
}
