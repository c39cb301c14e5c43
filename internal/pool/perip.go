package pool

import (
	"net/netip"
	"sync"
)

// perIP counts connections by the address they come from. An IPv6 network of
// 64 bits counts as one address, for whoever has one of its addresses has all of them.
type perIP struct {
	limit int // 0: nothing is counted

	mu      sync.Mutex // protects what follows
	index   map[netip.Addr]uint32
	sources []source // by index; the first is never used, so that 0 means none
	unused  []uint32
}

// source is an address, or network, that has connections.
type source struct {
	addr  netip.Addr
	conns int
}

func (p *perIP) init(limit int) {
	p.limit = limit
	p.index = map[netip.Addr]uint32{}
	p.sources = make([]source, 1)
}

// countIn counts a connection from addr, unless it is one too many. What it
// returns goes to countOut; it is 0 for what is not counted, such as unix sockets.
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

// countOut counts a connection out again.
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

// sourceOf is what an address counts as.
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		network, _ := addr.Prefix(64) // cannot fail for 64 bits of an IPv6 address
		return network.Addr()
	}
	return addr
}
