package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A PeerFilter selects connections by their peers' addresses.
type PeerFilter struct {
	prefix netip.Prefix
	port   uint16 // 0: any
	unix   bool   // only connections on unix sockets
}

// ParsePeer parses a filter: an IP address, a prefix, an address with a port (as in logs), or
// "unix" for all peers on unix sockets. An IPv4-mapped IPv6 address becomes an IPv4 address, which
// is how peers are shown everywhere. The error names the text and the rule that it breaks.
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

// peerAt returns the filter for a prefix of an address, length bits long, and a port.
func peerAt(addr netip.Addr, length int, port uint16) (*PeerFilter, error) {
	if addr.Zone() != "" {
		return nil, errors.New("has a zone, but peers are listed without one")
	}
	if addr.Is4In6() {
		if length -= 96; length < 0 {
			return nil, errors.New("is a prefix of an IPv4-mapped address with fewer than 96 bits")
		}
		addr = addr.Unmap()
	}
	return &PeerFilter{prefix: netip.PrefixFrom(addr, length).Masked(), port: port}, nil
}

// String returns a text that ParsePeer parses as the same filter.
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

// includes reports whether the connection with the descriptor fd is selected. It asks the kernel
// for the peer, which it no longer knows after a reset.
func (f *PeerFilter) includes(fd int) bool {
	peer, err := netpoll.Peer(fd)
	return err == nil && f.matches(fd, peer)
}

// matches reports whether a connection is selected, given its descriptor and the peer that
// netpoll.Peer returns for it. A peer without an address is not necessarily on a unix socket: a TCP
// connection has none after a reset.
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
