package pool

import (
	"errors"
	"fmt"
	"net/netip"

	"wsecho/internal/echo"
)

// Reasons for which Adopt refuses a connection.
var (
	ErrFull     = errors.New("connection limit reached")
	ErrDraining = errors.New("the pool is shutting down")
)

// Adopt takes over a connection from another server: a non-blocking socket (see netpoll.Prepare), the
// address of its peer (the zero AddrPort on a unix socket), the state of its protocol, and what has been
// read from it already. Any goroutine may call it.
//
// Once there is certain to be room for the connection, and before a worker looks at it, Adopt calls
// greet, which may tell the peer that the protocol has changed. If greet fails, Adopt returns its
// error. After a successful greeting the only error is ErrDraining, if the pool has begun to shut
// down meanwhile. After any error the socket still belongs to the caller.
func (p *Pool) Adopt(fd int, peer netip.AddrPort, proto echo.State, read []byte, greet func() error) error {
	if len(read) > p.cfg.Echo.MaxFrame {
		return fmt.Errorf("%d bytes already read exceed a buffer", len(read))
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

// CountHandshake counts a request that an http.Server has answered with this status.
func (p *Pool) CountHandshake(status int) {
	p.others.mu.Lock()
	defer p.others.mu.Unlock()
	if status == 101 {
		p.others.count.Upgraded++
	} else {
		p.others.count.Codes[status]++
	}
}
