package pool

import (
	"github.com/gobwas/ws"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// What the server sends without being asked: pings, close frames with 1001, and refusals that a
// request does not earn by its content.

// Reasons in close frames with 1001.
const (
	goodbyeShutdown = "the server is shutting down"
	goodbyeIdle     = "nothing was heard for too long"
)

// ping asks a silent peer for a sign of life, once. The peer may be busy with output that came before.
func (cs *conns) ping(c conn) {
	if c.is(pinged) {
		return
	}
	c.set(pinged)
	c.clear(marked)
	cs.progress.look(c, cs.now)
	cs.say(c, cs.endpoint.Ping)
}

// goodbye ends a connection with close code 1001, or with 503 if it is not open yet.
func (cs *conns) goodbye(c conn, reason string) {
	cs.say(c, func(dst []byte) []byte {
		return cs.endpoint.Goodbye(dst, &c.proto, ws.StatusGoingAway, reason)
	})
}

// refuse answers a request that has not arrived whole.
func (cs *conns) refuse(c conn, r *echo.Refusal) {
	cs.say(c, func(dst []byte) []byte { return cs.endpoint.Refuse(dst, &c.proto, r) })
}

// turnAway refuses a connection beyond a limit, as soon as it begins to send its request.
func (cs *conns) turnAway(c conn) {
	n, err := netpoll.Recv(c.fd, cs.store.buffer)
	if err != nil {
		cs.lost(c, err)
		return
	}
	if n == 0 {
		c.clear(unread)
		cs.count.EmptyReads++
		return
	}
	cs.heard(c, n)
	refusal := echo.RefuseFull
	if c.is(overSource) {
		refusal = echo.RefusePerIP
	}
	cs.refuse(c, refusal)
}

// refuseAtOnce answers 503 to a descriptor that cannot have a slot, and closes it. A peer that is
// still sending may see a reset instead of the answer.
func (cs *conns) refuseAtOnce(fd int, r *echo.Refusal) {
	cs.count.RefusedAtOnce++
	response := r.Append(cs.store.buffer[:0], cs.cfg.Echo.Now())
	n, _ := netpoll.Send(fd, response)
	cs.count.BytesOut += uint64(n)
	_ = netpoll.ShutdownWrite(fd)
	_, _ = netpoll.Recv(fd, cs.store.buffer)
	netpoll.Close(fd)
}

// say sends what appendTo appends, behind the write backlog if there is one. If there is no memory
// for it there, it is not sent: the backlog matters more.
func (cs *conns) say(c conn, appendTo func(dst []byte) []byte) {
	before := c.proto.Phase()
	backlog := cs.store.unsent(c.slot)
	proto, count := c.proto, cs.endpoint.Count
	out := appendTo(append(cs.store.buffer[:0], backlog...))
	if len(backlog) > 0 {
		if len(out) > len(backlog) && !cs.store.hold(c.slot, out, cs.store.rest(c.slot)) {
			c.proto, cs.endpoint.Count = proto, count
		}
		return
	}
	b := &echo.Buffer{Bytes: cs.store.buffer, OutEnd: len(out)}
	if !cs.send(c, b) {
		return
	}
	if b.Out < b.OutEnd && !cs.store.hold(c.slot, out[b.Out:], cs.store.rest(c.slot)) {
		cs.end(c, OutOfMemory)
		return
	}
	cs.settle(c, before)
}
