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

// send sends the output in the buffer, as much as the kernel takes. It reports whether the
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

// settle does what follows from a turn. Before is the phase that the connection was in then.
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

// refused reports whether the request was refused. Otherwise it became a WebSocket, even if
// the same bytes have closed it.
func refused(s *echo.State) bool { return 0 < s.Code() && s.Code() < 1000 }

// arm watches a connection for room to write. Room that is there already is reported too. Once
// armed it stays so: it has an event only after a write that took less than all. Arm reports
// whether the connection still exists.
func (cs *conns) arm(c conn) bool {
	if err := cs.poller.Modify(c.fd, c.gen, netpoll.ReadWrite); err != nil {
		cs.fail(c, err)
		return false
	}
	c.set(armed)
	return true
}

// drainBacklog sends more of the write backlog after the kernel has reported room.
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
