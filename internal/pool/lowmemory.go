package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// lowMemoryRead is how many bytes a low-memory turn peeks at, except of a request. It is less than
// the third of a socket's send buffer that must be free for the socket to count as
// writable, whatever the system's settings.
const lowMemoryRead = 4096

// lowMemoryTurn is a turn when the budget and the worker's spare block are spent, so that next to
// nothing can be kept. It takes from the kernel only what it has finished with: it peeks at the
// input (MSG_PEEK), only if the socket has room for the reply, and cuts unfinished frames through.
// So the bytes of a peer that does not read wait in TCP, and those of one that does are echoed as
// usual, at the price of two more system calls.
//
// What is left over is the beginning of a request, which may stay in the kernel, or less than a
// control frame, which is kept in the memory set aside for it. It should not stay in the kernel: a
// few bytes can be the last of a run of segments that the kernel has merged, whose memory it does
// not free before they are read, and which can fill the receive buffer. Then the window
// stays closed and the rest of the frame cannot arrive.
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
		room = cs.cfg.Echo.MaxHeader + 1 // a request is answered when it is whole
	}
	room = min(room, len(b.Bytes)-echo.Tailroom-b.End)
	n := 0
	if room > 0 { // otherwise what is held fills the block, and is cut through
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
	left := b.End - b.Start // to stay in the kernel
	starves := false
	switch {
	case c.proto.Phase() == echo.Handshake:
		left = n // and what was held stays held
	case !cs.send(c, b):
		return
	case cs.store.keep(c.slot, b):
		left = 0
	case left > n: // what was held stays held
		left = n
		starves = true
	default:
		b.End = b.Start
		if !cs.store.keep(c.slot, b) {
			// The socket had room for the reply when it was asked, and then had not.
			cs.end(c, OutOfMemory)
			return
		}
		starves = true
	}
	if starves { // the next sweep tries again; the rest of the frame needs room meanwhile
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
		discard(c.fd, left, cs.store.scratch) // closing with unread bytes would reset
		cs.end(c, Disconnected)
		return
	}
	cs.settle(c, before)
}

// park leaves a connection alone until the kernel has room for a reply, which an event reports. It
// stays unread, and has its turn then.
func (cs *conns) park(c conn) {
	c.set(parked)
	// Arming again would report the input again, without end.
	if c.is(armed) || cs.arm(c) {
		cs.update(c)
	}
}

// discard reads n bytes that were peeked at before into scratch. Where they were put then is the
// reply by now.
func discard(fd, n int, scratch []byte) {
	for n > 0 {
		k, err := netpoll.Recv(fd, scratch[:min(n, len(scratch))])
		if err != nil || k == 0 {
			return // a reset came in between; the next call on the socket reports it
		}
		n -= k
	}
}
