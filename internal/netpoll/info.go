package netpoll

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer returns the address of a socket's peer (see addressOf). It fails once the peer has reset the
// connection: to name a connection in a log, keep the address that AcceptFrom returned.
func Peer(fd int) (netip.AddrPort, error) {
	var peer unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(peer))
	if _, _, errno := syscall.RawSyscall(unix.SYS_GETPEERNAME,
		uintptr(fd), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return addressOf(&peer), nil
}

// Unacknowledged returns how much of what was sent the peer has not taken yet: the bytes of a TCP
// connection that the peer's kernel has not acknowledged, its FIN included (SIOCOUTQ, tcp(7)). On a
// unix socket it is the kernel memory that holds what the peer has not read, which shrinks in steps
// of about 36 KiB; of that, unixReceiveBuffer counts as acknowledged. It is 0 if the kernel does not
// tell.
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

// unixReceiveBuffer is how much unread output of a unix socket is treated as lying at the peer, in
// bytes: a TCP peer has a receive buffer, and acknowledges what it has not read.
const unixReceiveBuffer = 64 << 10

// Sent is how many bytes have been sent on a TCP connection, acknowledged or not, each counted once. Of
// another socket it is not known.
func Sent(fd int) (n uint64, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_sent - info.Bytes_retrans, true
}
