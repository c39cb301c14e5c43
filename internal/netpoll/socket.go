package netpoll

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Recv reads what has arrived into p. It returns 0 and no error if there is
// nothing, and io.EOF after the peer's last byte. p is not empty.
func Recv(fd int, p []byte) (int, error) { return recv(fd, p, 0) }

// Peek is Recv, but leaves what it reads to be read again.
func Peek(fd int, p []byte) (int, error) { return recv(fd, p, unix.MSG_PEEK) }

// recvfrom and sendto do the same as read and write on a socket, and reach it
// by a shorter way: BenchmarkSystemCalls, docs/measurements.md.
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

// Send writes p and says how much of it the kernel took, which may be nothing.
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

// Writable says whether the kernel has room for a good part of what a socket
// may queue: a third of it (tcp(7) and sk_stream_is_writeable).
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

// Widen lets the peer send more although what it has sent is not read. A few
// unread bytes may be the last of a run of segments that the kernel has put together, whose
// memory it does not give back before; that can be all that the receive buffer
// may have, and then there is no window. The kernel enlarges the buffer for
// somebody who says that he wakes only for more (tcp_set_rcvlowat), and without
// ending its own tuning of it, as SO_RCVBUF would. It may report once more what is there to read.
func Widen(fd int) {
	const enough = 1 << 20 // more than one run of segments can hold
	for _, n := range []int{enough, 1} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
	}
}

// ErrExhausted means that a connection could not be accepted because the
// process or the system is out of descriptors or of memory. The connection
// waits in the backlog.
var ErrExhausted = errors.New("out of descriptors or memory")

// AcceptFrom takes a connection from a listening socket and returns its descriptor, which is
// non-blocking, and the address of its peer (see addressOf). The descriptor is -1 without an error if
// no connection waits, and -1 with an error if accept4 fails: ErrExhausted, or the errno.
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

// FailedInBacklog reports whether an error of AcceptFrom is about the connection that it took from the
// backlog, not about the listening socket: the next connection may be accepted at once. accept(2) has
// the list, as far as it goes.
func FailedInBacklog(err error) bool {
	switch err {
	case unix.ECONNABORTED, unix.ECONNRESET, unix.ETIMEDOUT, unix.EPROTO, unix.EPERM, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}

// addressOf returns the IP address and the port in a socket address: the zero AddrPort if it has
// none, as that of a unix socket.
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

// ShutdownWrite ends our side of a connection: the peer reads to the end of
// what was sent. An error means that there is no connection any more.
func ShutdownWrite(fd int) error {
	if _, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); errno != 0 {
		return errno
	}
	return nil
}

// Close closes a socket. The descriptor is gone whatever close(2) says, and
// may be somebody else's at once.
func Close(fd int) {
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Prepare makes a socket that somebody else has opened such as AcceptFrom and Listen
// would have made it: non-blocking, and small messages are sent at once.
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
