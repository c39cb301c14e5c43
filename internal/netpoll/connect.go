package netpoll

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Connect opens a TCP socket with the options of an accepted one (non-blocking, TCP_NODELAY), and
// starts connecting it. If from is valid, it is the local address.
//
// Connect does not wait until the socket is connected, although on the machine's own addresses it
// mostly is when Connect returns. Until then Send sends nothing and returns no error; if the
// connection fails, Send returns the error. The error of Connect is an errno.
func Connect(to netip.AddrPort, from netip.Addr) (fd int, err error) {
	remote := socketAddress(to)
	n, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(remote.family()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if errno != 0 {
		return -1, errno
	}
	fd = int(n)
	errno = setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if errno == 0 && from.IsValid() {
		errno = bindAddress(fd, from)
	}
	if errno == 0 {
		errno = remote.call(unix.SYS_CONNECT, fd)
	}
	if errno != 0 && errno != unix.EINPROGRESS && errno != unix.EINTR { // in both cases the kernel goes on connecting: connect(2)
		Close(fd)
		return -1, errno
	}
	return fd, nil
}

// bindAddress sets the local address. The kernel chooses the port later, when it knows the remote
// address, so that connections to different remote addresses can share a port
// (IP_BIND_ADDRESS_NO_PORT, ip(7)).
func bindAddress(fd int, from netip.Addr) unix.Errno {
	if errno := setInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); errno != 0 {
		return errno
	}
	local := socketAddress(netip.AddrPortFrom(from, 0))
	return local.call(unix.SYS_BIND, fd)
}

func setInt(fd, level, name, n int) unix.Errno {
	value := int32(n)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT,
		uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// rawAddress holds a sockaddr_in6, or a sockaddr_in in the same memory.
type rawAddress struct {
	in6  unix.RawSockaddrInet6
	size uintptr
}

func (a *rawAddress) family() uint16 { return a.in6.Family }

// call makes the system call with the given number, connect(2) or bind(2).
func (a *rawAddress) call(number uintptr, fd int) unix.Errno {
	_, _, errno := syscall.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&a.in6)), a.size)
	return errno
}

func socketAddress(of netip.AddrPort) (a rawAddress) {
	addr := of.Addr()
	port := networkOrder(of.Port())
	if addr.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&a.in6)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: addr.As4()}
		a.size = unix.SizeofSockaddrInet4
		return a
	}
	a.in6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: addr.As16()}
	a.size = unix.SizeofSockaddrInet6
	if zone := addr.Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			a.in6.Scope_id = uint32(i.Index)
		}
	}
	return a
}

// networkOrder converts a port to network byte order, or back.
func networkOrder(port uint16) (n uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&n))[:], port)
	return n
}

// ConnectError returns the error with which connecting a socket has failed (SO_ERROR, socket(7)),
// or nil.
func ConnectError(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}
