package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A PeerFilter selects connections by where their peers are.
type PeerFilter struct {
	prefix netip.Prefix
	port   uint16 // 0: any
	unix   bool   // those on unix sockets, and no others
}

// ParsePeer reads a filter: an IP address, a prefix, an address with a port as logs have it, or
// "unix" for all peers on unix sockets. An IPv4-mapped IPv6 address is its IPv4 address, as it is
// wherever peers are shown.
func ParsePeer(text string) (*PeerFilter, error) {
	f, err := parsePeer(text)
	if err != nil {
		return nil, fmt.Errorf("%q %w", text, err)
	}
	return f, nil
}

func parsePeer(text string) (*PeerFilter, error) {
	if text == "unix" {
		return &PeerFilter{unix: true}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return peerAt(addr, addr.BitLen(), 0)
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return peerAt(prefix.Addr(), prefix.Bits(), 0)
	}
	if at, err := netip.ParseAddrPort(text); err == nil && at.Port() != 0 {
		return peerAt(at.Addr(), at.Addr().BitLen(), at.Port())
	}
	return nil, errors.New("is not an IP address, a prefix such as 192.0.2.0/24, an address with a port, or unix")
}

func peerAt(addr netip.Addr, length int, port uint16) (*PeerFilter, error) {
	if addr.Zone() != "" {
		return nil, errors.New("has a zone, and peers are known without one")
	}
	if addr.Is4In6() {
		if length -= 96; length < 0 {
			return nil, errors.New("is a prefix of an IPv4-mapped address with fewer than 96 bits")
		}
		addr = addr.Unmap()
	}
	return &PeerFilter{prefix: netip.PrefixFrom(addr, length).Masked(), port: port}, nil
}

// String returns a text that ParsePeer reads as the same filter.
func (f *PeerFilter) String() string {
	switch {
	case f.unix:
		return "unix"
	case f.port != 0:
		return netip.AddrPortFrom(f.prefix.Addr(), f.port).String()
	case f.prefix.IsSingleIP():
		return f.prefix.Addr().String()
	}
	return f.prefix.Addr().String() + "/" + strconv.Itoa(f.prefix.Bits())
}

// includes is matches for a descriptor whose peer is asked for here. A connection that was reset has
// no peer any more.
func (f *PeerFilter) includes(fd int) bool {
	peer, err := netpoll.Peer(fd)
	return err == nil && f.matches(fd, peer)
}

// matches reports whether a connection is selected: its descriptor, and what netpoll.Peer returns
// for that. A TCP connection that was reset has no address any more, and neither is it on a unix
// socket.
func (f *PeerFilter) matches(fd int, peer netip.AddrPort) bool {
	if !f.unix {
		return f.prefix.Contains(peer.Addr()) && (f.port == 0 || f.port == peer.Port())
	}
	if peer.IsValid() {
		return false
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_UNIX
}
