package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// lowMemoryRead is the maximum number of bytes that a low-memory turn peeks at, unless it reads a
// request. It is less than a third of any usual send buffer, which is what must be free for the
// kernel to report the socket as writable. With a smaller buffer (tcp_wmem below about 12 KiB) the
// kernel may take only a part of the reply, and the connection may have to be closed.
const lowMemoryRead = 4096

// lowMemoryTurn is a turn when both the budget and the worker's spare block are used up, so that
// the turn can keep almost nothing. It peeks at the input (MSG_PEEK), only if the socket has room
// for the reply, and removes from the kernel only the input that it has answered. A frame that it
// does not see whole is echoed in fragments. A slow reader is thus throttled by TCP, and the other
// connections continue, at the price of two more system calls per turn.
//
// Two kinds of input remain. The beginning of a request stays in the kernel. A part of a control
// frame is kept in a block that the arena sets aside for short data. If it stayed in the kernel, it
// could hold a whole run of merged segments, whose memory is freed only when all of it is read.
// That could keep the receive window closed, so that the rest of the frame could not arrive.
func (cs *conns) lowMemoryTurn(c conn) {
	cs.count.LowMemoryTurns++
	cs.warnings.budget.note()
	if !netpoll.Writable(c.fd) {
		cs.park(c)
		return
	}
	wasStarved := c.is(starved)
	c.clear(parked | starved)
	b := cs.store.open(c.slot)
	room := lowMemoryRead
	if c.proto.Phase() == echo.Handshake {
		room = cs.cfg.Echo.MaxHeader + 1 // a request is answered when it is complete
	}
	room = min(room, len(b.Bytes)-echo.Tailroom-b.End)
	n := 0
	if room > 0 { // otherwise the held input fills the block, and is echoed as a fragment
		var err error
		if n, err = netpoll.Peek(c.fd, b.Bytes[b.End:b.End+room]); err != nil {
			cs.lost(c, err)
			return
		}
		if n < room && !c.is(ended) || n == 0 {
			c.clear(unread)
		}
		if n == 0 {
			cs.count.EmptyReads++
			cs.update(c)
			return
		}
	}
	b.End += n
	before := c.proto.Phase()
	cs.endpoint.Receive(&c.proto, b, false)
	left := b.End - b.Start // bytes that stay in the kernel
	starves := false
	switch {
	case c.proto.Phase() == echo.Handshake:
		left = n // held input stays held
	case !cs.send(c, b):
		return
	case cs.store.keep(c.slot, b):
		left = 0
	case left > n: // held input stays held
		left = n
		starves = true
	default:
		b.End = b.Start
		if !cs.store.keep(c.slot, b) {
			// The socket was writable before the turn, but did not take the whole reply.
			cs.end(c, OutOfMemory)
			return
		}
		starves = true
	}
	if starves { // the next sweep tries again; until then the frame needs room in the kernel
		c.set(starved)
		if !wasStarved {
			netpoll.Widen(c.fd)
		}
	}
	if left < n {
		discard(c.fd, n-left, cs.store.scratch)
		cs.heard(c, n-left)
	}
	if left > 0 && c.is(ended) {
		discard(c.fd, left, cs.store.scratch) // closing a socket with unread input would send a reset
		cs.end(c, Disconnected)
		return
	}
	cs.settle(c, before)
}

// park stops reading from a connection until an event reports that the kernel has room for a reply.
// The connection stays unread, and has its turn then.
func (cs *conns) park(c conn) {
	c.set(parked)
	// Arming again would report the same input again and again.
	if c.is(armed) || cs.arm(c) {
		cs.update(c)
	}
}

// discard reads n bytes that were peeked at before. It reads them into scratch, since the buffer
// holds the reply by now.
func discard(fd, n int, scratch []byte) {
	for n > 0 {
		k, err := netpoll.Recv(fd, scratch[:min(n, len(scratch))])
		if err != nil || k == 0 {
			return // the peer has reset the connection; the next call fails or returns io.EOF
		}
		n -= k
	}
}
