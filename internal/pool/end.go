package pool

import (
	"io"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// shut ends our side of TCP, after the last byte has been sent.
func (cs *conns) shut(c conn) {
	cs.store.release(c.slot)
	if err := netpoll.ShutdownWrite(c.fd); err != nil {
		cs.end(c, Completed) // the peer was faster
		return
	}
	c.set(shut)
	if c.is(unread) {
		cs.goOn(c)
	}
	cs.update(c)
}

// linger discards what arrives after our side is shut, until the peer's end.
func (cs *conns) linger(c conn) {
	n, err := netpoll.Recv(c.fd, cs.store.buffer)
	if err != nil {
		cs.end(c, Completed)
		return
	}
	cs.count.BytesDiscarded += uint64(n)
	if n == len(cs.store.buffer) || n > 0 && c.is(ended) {
		cs.goOn(c)
		return
	}
	c.clear(unread)
}

// lost closes a connection whose socket has reported err.
func (cs *conns) lost(c conn, err error) {
	switch {
	case c.proto.Phase() == echo.Done:
		cs.end(c, Completed)
	case err == io.EOF:
		cs.end(c, Disconnected)
	default:
		cs.end(c, Broken)
	}
}

// fail closes a connection that epoll refuses to watch: the kernel's limit of watches, or its
// memory, is exhausted.
func (cs *conns) fail(c conn, err error) {
	cs.cfg.Log.Error("connection given up", "err", err)
	cs.end(c, InternalFailed)
}

// end closes a connection. It is the only place that does, in this order: the poller forgets the
// descriptor, the slot is cleared, the descriptor is closed.
func (cs *conns) end(c conn, why Reason) {
	cs.count.Ended[why]++
	cs.observer.closed(c, why, cs.now)
	if code := c.proto.Code(); code != 0 {
		cs.count.Codes[code]++
	}
	if why != InternalFailed {
		unwatch(cs.poller, c.fd)
	}
	cs.store.release(c.slot)
	cs.untime(c)
	cs.mine.remove(c.fd)
	counted := !c.is(surplus)
	if !counted {
		cs.surplus--
	}
	source := c.source
	*c.slot = slot{gen: c.gen + 1}
	cs.census.out(source, counted) // from here on the slot belongs to the descriptor's next owner
	cs.load.Add(-1)
	netpoll.Close(c.fd)
}
