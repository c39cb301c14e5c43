package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// turnBytes is the maximum number of bytes that a turn reads, except inside a long frame, where a
// turn may fill the buffer. A frame of 64 KiB fits with its header. The limit amounts to 11,008 of
// the shortest frames, which are a fraction of a millisecond of work, so a hundred connections that
// flood the worker with them delay another one by tens of milliseconds.
const turnBytes = 64<<10 + 512

// turn reads from a connection once and answers the input. A connection with more input continues
// in the next pass, after the turns of other connections.
//
// A connection with a write backlog gets no turn: its peer must read first.
//
// The common path is a single function: a system call leaves every later return mispredicted, and
// each misprediction costs as much as the work between two returns.
func (cs *conns) turn(c conn) {
	switch {
	case !c.is(unread) || cs.store.hasUnsent(c.slot):
		return
	case c.is(shut):
		cs.linger(c)
		return
	case c.is(surplus) && c.proto.Phase() == echo.Handshake:
		cs.refuseSurplus(c)
		return
	case !cs.store.roomForTurn():
		cs.lowMemoryTurn(c)
		return
	case c.is(parked | starved):
		c.clear(parked | starved)
		cs.update(c)
	}

	b := cs.store.open(c.slot)
	room := b.Bytes[b.End : len(b.Bytes)-echo.Tailroom]
	if !c.proto.InLongFrame() && b.Seen <= shortRest {
		room = room[:min(len(room), turnBytes)]
	}
	n, err := netpoll.Recv(c.fd, room)
	if err != nil {
		cs.lost(c, err)
		return
	}
	// A short read has emptied the socket, and later input is a new edge. But if the end of the
	// stream has already been reported, it takes another read to reach it.
	if n < len(room) && !c.is(ended) || n == 0 {
		c.clear(unread)
	}
	if n == 0 {
		cs.count.EmptyReads++
		return
	}
	b.End += n
	cs.heard(c, n)

	before := c.proto.Phase()
	cs.endpoint.Receive(&c.proto, b, true)
	switch {
	case !cs.send(c, b):
	case c.held == 0 && b.Start == b.End && b.Out == b.OutEnd && c.proto.Phase() == before:
		// Everything is sent and no input remains: keep and settle would change nothing.
		if c.is(unread) {
			cs.goOn(c)
		}
	case !cs.store.keep(c.slot, b):
		panic("pool: the spare block was taken during a full turn")
	default:
		cs.settle(c, before)
	}
}

// firstTurn answers the input that was read from an adopted connection before it arrived.
func (cs *conns) firstTurn(c conn, read []byte) {
	full := cs.store.roomForTurn()
	b := cs.store.open(c.slot)
	b.End += copy(b.Bytes[b.Start:], read)
	cs.heard(c, len(read))
	before := c.proto.Phase()
	cs.endpoint.Receive(&c.proto, b, full)
	switch {
	case !cs.send(c, b):
	case cs.store.keep(c.slot, b):
		cs.settle(c, before)
	case full:
		panic("pool: the spare block was taken during a full turn")
	case c.proto.Phase() == echo.Handshake:
		cs.refuse(c, echo.RefuseFull)
	default: // the input is no longer in the kernel, and there is no memory to keep it
		cs.end(c, OutOfMemory)
	}
}
