package pool

import (
	"io"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// shut shuts down our side of TCP (shutdown(2)), after the last byte has been sent.
func (cs *conns) shut(c conn) {
	cs.store.release(c.slot)
	if err := netpoll.ShutdownWrite(c.fd); err != nil {
		cs.end(c, Completed) // the peer has reset the connection
		return
	}
	c.set(shut)
	if c.is(unread) {
		cs.goOn(c)
	}
	cs.update(c)
}

// linger discards input that arrives after our side is shut, until the peer's FIN.
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

// fail closes a connection that the poller cannot register or modify: the kernel's memory or its
// limit of epoll registrations (fs.epoll.max_user_watches) is exhausted.
func (cs *conns) fail(c conn, err error) {
	cs.cfg.Log.Error("epoll cannot watch a connection, closing it", "err", err)
	cs.end(c, InternalFailed)
}

// end closes a connection. It is the only function that does: it removes the descriptor from the
// poller, clears the slot, and closes the descriptor, in this order.
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
	cs.removeDeadline(c)
	cs.mine.remove(c.fd)
	counted := !c.is(surplus)
	if !counted {
		cs.surplus--
	}
	source := c.source
	*c.slot = slot{gen: c.gen + 1}
	cs.census.out(source, counted) // from now on the slot belongs to the descriptor's next owner
	cs.load.Add(-1)
	netpoll.Close(c.fd)
}
