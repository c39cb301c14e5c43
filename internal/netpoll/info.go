package netpoll

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer returns the address of a socket's peer, which is the zero AddrPort for a unix socket. It
// returns an error if the peer has reset the connection. To name a connection in a log, use the
// address that AcceptFrom returned instead.
func Peer(fd int) (netip.AddrPort, error) {
	var peer unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(peer))
	if _, _, errno := syscall.RawSyscall(unix.SYS_GETPEERNAME,
		uintptr(fd), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return addressOf(&peer), nil
}

// Unacknowledged returns the number of bytes of a TCP connection that were sent but that the peer's
// kernel has not acknowledged, the FIN included (SIOCOUTQ, tcp(7)). On a unix socket it is the
// kernel memory of the bytes that the peer has not read, less unixReceiveBuffer; it shrinks in
// steps of about 36 KiB. Unacknowledged returns 0 if the ioctl fails.
func Unacknowledged(fd int) uint32 {
	var n int32
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL,
		uintptr(fd), unix.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); errno != 0 || n < 0 {
		return 0
	}
	if n > 0 {
		if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_UNIX {
			n = max(0, n-unixReceiveBuffer)
		}
	}
	return uint32(n)
}

// unixReceiveBuffer is the number of unread bytes of a unix socket that count as acknowledged. It
// stands for the receive buffer of a TCP peer, whose kernel acknowledges bytes that the peer has
// not read yet.
const unixReceiveBuffer = 64 << 10

// Sent returns the number of bytes sent on a TCP connection, acknowledged or not, without
// retransmissions (TCP_INFO, tcp(7)). It returns false for other sockets.
func Sent(fd int) (n uint64, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_sent - info.Bytes_retrans, true
}
