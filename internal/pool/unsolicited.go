package pool

import (
	"github.com/gobwas/ws"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// This file has the functions that send what no input asks for: pings, close frames with code 1001,
// and refusals that do not depend on the request.

// Reasons in close frames with code 1001.
const (
	goodbyeShutdown = "the server is shutting down"
	goodbyeIdle     = "idle timeout"
)

// ping sends a ping to an idle peer, once. It also examines the peer's progress, since output that
// the peer still has to read delays the pong.
func (cs *conns) ping(c conn) {
	if c.is(pinged) {
		return
	}
	c.set(pinged)
	c.clear(marked)
	cs.progress.look(c, cs.now)
	cs.sendUnsolicited(c, cs.endpoint.Ping)
}

// goodbye sends a close frame with code 1001, or 503 if the handshake is not complete.
func (cs *conns) goodbye(c conn, reason string) {
	cs.sendUnsolicited(c, func(dst []byte) []byte {
		return cs.endpoint.Goodbye(dst, &c.proto, ws.StatusGoingAway, reason)
	})
}

// refuse refuses a request that is not complete.
func (cs *conns) refuse(c conn, r *echo.Refusal) {
	cs.sendUnsolicited(c, func(dst []byte) []byte { return cs.endpoint.Refuse(dst, &c.proto, r) })
}

// refuseSurplus refuses a connection beyond a limit, as soon as it begins to send its request.
func (cs *conns) refuseSurplus(c conn) {
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

// refuseAtOnce sends a refusal to a descriptor that has no slot, and closes it. A peer that is
// still sending may receive a reset instead of the refusal.
func (cs *conns) refuseAtOnce(fd int, r *echo.Refusal) {
	cs.count.RefusedAtOnce++
	response := r.Append(cs.store.buffer[:0], cs.cfg.Echo.Now())
	n, _ := netpoll.Send(fd, response)
	cs.count.BytesOut += uint64(n)
	_ = netpoll.ShutdownWrite(fd)
	_, _ = netpoll.Recv(fd, cs.store.buffer)
	netpoll.Close(fd)
}

// sendUnsolicited sends the bytes that appendTo appends, after the write backlog if there is one.
// If there is no memory to add them to the backlog, they are not sent: the backlog matters more.
func (cs *conns) sendUnsolicited(c conn, appendTo func(dst []byte) []byte) {
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
