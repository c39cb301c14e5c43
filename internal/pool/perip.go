package pool

import (
	"net/netip"
	"sync"
)

// perIP counts connections per source: an IPv4 address or an IPv6 /64 network. A network counts as
// a whole because a host usually controls all of its addresses.
type perIP struct {
	limit int // connections per source; 0: nothing is counted

	mu      sync.Mutex            // protects the fields below
	index   map[netip.Addr]uint32 // into sources
	sources []source              // element 0 is never used: index 0 means not counted
	unused  []uint32              // indexes into sources that are free
}

// A source is an address or network, and the number of its connections.
type source struct {
	addr  netip.Addr
	conns int
}

func (p *perIP) init(limit int) {
	p.limit = limit
	p.index = map[netip.Addr]uint32{}
	p.sources = make([]source, 1)
}

// countIn counts a connection from addr, and reports whether the limit allows it. The index is to
// be passed to countOut. It is 0 if the connection is not counted, as on a unix socket.
func (p *perIP) countIn(addr netip.Addr) (index uint32, ok bool) {
	if p.limit == 0 || !addr.IsValid() {
		return 0, true
	}
	addr = sourceOf(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	index, known := p.index[addr]
	if !known {
		if n := len(p.unused); n > 0 {
			index, p.unused = p.unused[n-1], p.unused[:n-1]
		} else {
			index = uint32(len(p.sources))
			p.sources = append(p.sources, source{})
		}
		p.index[addr] = index
		p.sources[index] = source{addr: addr}
	}
	s := &p.sources[index]
	if s.conns >= p.limit {
		return 0, false
	}
	s.conns++
	return index, true
}

// countOut takes a connection out of the count.
func (p *perIP) countOut(index uint32) {
	if index == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.sources[index]
	if s.conns--; s.conns == 0 {
		delete(p.index, s.addr)
		p.unused = append(p.unused, index)
	}
}

// sourceOf returns the address or network as which addr is counted.
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		network, _ := addr.Prefix(64) // cannot fail for 64 bits of an IPv6 address
		return network.Addr()
	}
	return addr
}
