package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// heard records that n bytes were read.
func (cs *conns) heard(c conn, n int) {
	cs.count.BytesIn += uint64(n)
	c.bytes += uint64(n)
	if c.proto.Phase() == echo.Open {
		c.since = cs.now
		c.clear(pinged)
	}
}

// send sends as much of the buffer's output as the kernel accepts. It reports whether the
// connection still exists.
func (cs *conns) send(c conn, b *echo.Buffer) bool {
	if b.Out == b.OutEnd {
		return true
	}
	n, err := netpoll.Send(c.fd, b.Bytes[b.Out:b.OutEnd])
	if err != nil {
		cs.lost(c, err)
		return false
	}
	cs.count.BytesOut += uint64(n)
	b.Out += n
	return true
}

// settle does the work that follows a turn. The argument before is the phase at the turn's
// beginning.
func (cs *conns) settle(c conn, before echo.Phase) {
	if before == echo.Handshake && c.proto.Phase() != before && !refused(&c.proto) {
		cs.count.Upgraded++
	}
	switch {
	case cs.store.hasUnsent(c.slot):
		cs.count.Backlogs++
		c.restart(cs.now)
		if !c.is(armed) && !cs.arm(c) {
			return
		}
	case c.proto.Phase() == echo.Done && !c.is(shut):
		cs.shut(c)
		return
	case c.is(unread):
		cs.goOn(c)
	}
	cs.update(c)
}

// refused reports whether the request was refused. Otherwise the connection was upgraded, even if
// the same input closed it again.
func refused(s *echo.State) bool { return 0 < s.Code() && s.Code() < 1000 }

// arm asks the poller to report when a connection becomes writable, or if it is already. A
// connection stays armed: the edge-triggered poller reports it again only after a partial write.
// arm reports whether the connection still exists.
func (cs *conns) arm(c conn) bool {
	if err := cs.poller.Modify(c.fd, c.gen, netpoll.ReadWrite); err != nil {
		cs.fail(c, err)
		return false
	}
	c.set(armed)
	return true
}

// drainBacklog sends more of the write backlog after the poller has reported the socket writable.
func (cs *conns) drainBacklog(c conn) {
	n, err := netpoll.Send(c.fd, cs.store.unsent(c.slot))
	if err != nil {
		cs.lost(c, err)
		return
	}
	cs.count.BytesOut += uint64(n)
	cs.store.sent(c.slot, n)
	if n > 0 {
		c.restart(cs.now)
	}
	if !cs.store.hasUnsent(c.slot) {
		cs.settle(c, c.proto.Phase())
	}
}
