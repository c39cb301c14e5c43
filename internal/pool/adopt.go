package pool

import (
	"errors"
	"fmt"
	"net/netip"

	"wsecho/internal/echo"
)

// Errors of Adopt.
var (
	ErrFull     = errors.New("connection limit reached")
	ErrDraining = errors.New("the pool is shutting down")
)

// Adopt takes over a connection from another server. It takes the connection's non-blocking socket
// (see netpoll.Prepare), the peer's address (the zero AddrPort on a unix socket), the protocol
// state, and the bytes that have already been read. Any goroutine may call it.
//
// Once the connection is counted against the limits, and before a worker uses it, Adopt calls
// greet, which may send the response that switches protocols. If greet fails, Adopt returns its
// error.
//
// Adopt returns an error that wraps ErrFull if a connection limit is reached, and ErrDraining if
// the pool is shutting down. After greet has succeeded, the only possible error is ErrDraining.
// After any error the socket still belongs to the caller.
func (p *Pool) Adopt(fd int, peer netip.AddrPort, proto echo.State, read []byte, greet func() error) error {
	if len(read) > p.cfg.Echo.MaxFrame {
		return fmt.Errorf("%d bytes already read, a buffer holds %d", len(read), p.cfg.Echo.MaxFrame)
	}
	if p.draining.Load() {
		return ErrDraining
	}
	if fd >= len(p.slots) {
		p.refusedElsewhere(echo.RefuseFull)
		return fmt.Errorf("descriptor %d: %w", fd, ErrFull)
	}
	source, refusal := p.census.in(peer.Addr())
	if refusal != nil {
		p.refusedElsewhere(refusal)
		return fmt.Errorf("%w: %w", ErrFull, refusal)
	}
	if err := greet(); err != nil {
		p.census.out(source, true)
		return err
	}
	if !p.place(nil, arrival{fd: fd, peer: peer, source: source, proto: proto, read: read, adopted: true}) {
		p.census.out(source, true)
		return ErrDraining
	}
	return nil
}

// refusedElsewhere counts a connection that Adopt refused.
func (p *Pool) refusedElsewhere(r *echo.Refusal) {
	p.others.mu.Lock()
	defer p.others.mu.Unlock()
	if r == echo.RefusePerIP {
		p.others.count.RefusedPerIP++
		p.warnings.perIP.note()
	} else {
		p.others.count.RefusedFull++
		p.warnings.full.note()
	}
}

// CountHandshake counts an opening request that an http.Server has answered with the given status.
func (p *Pool) CountHandshake(status int) {
	p.others.mu.Lock()
	defer p.others.mu.Unlock()
	if status == 101 {
		p.others.count.Upgraded++
	} else {
		p.others.count.Codes[status]++
	}
}
