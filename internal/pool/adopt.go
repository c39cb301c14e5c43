package pool

import (
	"errors"
	"fmt"
	"net/netip"

	"wsecho/internal/echo"
)

// Why Adopt may not take a connection.
var (
	ErrFull     = errors.New("as many connections are open as may be")
	ErrDraining = errors.New("the pool is shutting down")
)

// Adopt makes a connection the pool's: a non-blocking socket (see netpoll.Prepare), the address of its
// peer (the zero AddrPort for a unix socket), how far its protocol has come, and what has been read
// from it already. Any goroutine may call it. After an error the socket is still the caller's.
func (p *Pool) Adopt(fd int, peer netip.AddrPort, proto echo.State, read []byte) error {
	return p.AdoptAfter(fd, peer, proto, read, func() error { return nil })
}

// AdoptAfter is Adopt for a connection that is to be told something first, such as that it has changed
// protocols: once it is certain that there is room for it, and before a worker looks at it, greet is called.
// The error of greet is AdoptAfter's. After a greeting there is only ErrDraining, if the pool began to shut down meanwhile.
func (p *Pool) AdoptAfter(fd int, peer netip.AddrPort, proto echo.State, read []byte, greet func() error) error {
	if len(read) > p.cfg.Echo.MaxFrame {
		return fmt.Errorf("%d bytes already read are more than a buffer holds", len(read))
	}
	if p.draining.Load() {
		return ErrDraining
	}
	if fd >= len(p.slots) {
		p.refusedElsewhere(echo.RefuseFull)
		return fmt.Errorf("descriptor %d: %w", fd, ErrFull)
	}
	source, refusal := p.countIn(peer.Addr())
	if refusal != nil {
		p.refusedElsewhere(refusal)
		return fmt.Errorf("%w: %w", ErrFull, refusal)
	}
	if err := greet(); err != nil {
		p.countOut(source)
		return err
	}
	if !p.place(nil, arrival{fd: fd, peer: peer, source: source, proto: proto, read: read, adopted: true}) {
		p.countOut(source)
		return ErrDraining
	}
	return nil
}
