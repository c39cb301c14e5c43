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

// in counts a connection from an address, or returns the refusal of the limit that is reached. The
// source it returns goes to out.
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

// out counts a connection out again. If it was not counted because it was beyond a limit, out
// still orders what its worker did before what the descriptor's next owner does after in.
func (c *census) out(source uint32, counted bool) {
	c.perIP.countOut(source)
	if counted {
		c.open.Add(-1)
	} else {
		c.open.Add(0)
	}
}
