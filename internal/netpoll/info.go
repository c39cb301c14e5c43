package netpoll

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is where the peer of a socket is, with its port; the zero AddrPort if it has no IP address or is
// not connected any more.
func Peer(fd int) netip.AddrPort {
	var peer unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(peer))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME,
		uintptr(fd), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	addr := addressOf(&peer)
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	// The port is at the same place for IPv4 and IPv6, in network byte order.
	port := (*[2]byte)(unsafe.Pointer(&(*unix.RawSockaddrInet4)(unsafe.Pointer(&peer)).Port))
	return netip.AddrPortFrom(addr, uint16(port[0])<<8|uint16(port[1]))
}

// Sent is how many bytes have been sent on a TCP connection, acknowledged or not, each counted once. Of
// another socket it is not known.
func Sent(fd int) (n uint64, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_sent - info.Bytes_retrans, true
}
