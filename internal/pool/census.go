package pool

import (
	"net/netip"
	"sync/atomic"

	"wsecho/internal/echo"
)

// census counts open connections against the limits. Any goroutine may use it.
type census struct {
	max   int          // MaxConns
	open  atomic.Int64 // connections that count against it
	perIP perIP
}

func (c *census) init(maxConns, maxPerIP int) {
	c.max = maxConns
	c.perIP.init(maxPerIP)
}

// in counts a connection from an address. It returns the source to pass to out, or the refusal if a
// limit is reached.
func (c *census) in(from netip.Addr) (source uint32, r *echo.Refusal) {
	if c.open.Add(1) > int64(c.max) {
		c.open.Add(-1)
		return 0, echo.RefuseFull
	}
	source, ok := c.perIP.countIn(from)
	if !ok {
		c.open.Add(-1)
		return 0, echo.RefusePerIP
	}
	return source, nil
}

// out takes a connection out of the counts; counted is false if it was beyond a limit. Even then
// out performs an atomic operation, which orders the worker's accesses to the slot before those of
// the descriptor's next owner, which come after in.
func (c *census) out(source uint32, counted bool) {
	c.perIP.countOut(source)
	if counted {
		c.open.Add(-1)
	} else {
		c.open.Add(0)
	}
}
