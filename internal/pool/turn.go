package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// turnBytes is the most, in bytes, that a turn reads, unless it is inside a long frame, when it
// may fill the buffer. A frame of 64 KiB fits with its header. It is 11,008 of the shortest
// frames, a fraction of a millisecond of work, so a hundred connections that flood the worker
// with those delay another one by tens of milliseconds.
const turnBytes = 64<<10 + 512

// turn reads what a connection has sent, once, and answers it. After that one read the other
// connections have their turns; a connection that has more continues in the next pass.
//
// A connection with a write backlog has no turn: its peer must read first.
//
// The usual turn is one function: a system call leaves every later return mispredicted, and each
// would cost as much as the work between two of them.
func (cs *conns) turn(c conn) {
	switch {
	case !c.is(unread) || cs.store.hasUnsent(c.slot):
		return
	case c.is(shut):
		cs.linger(c)
		return
	case c.is(surplus) && c.proto.Phase() == echo.Handshake:
		cs.turnAway(c)
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
	// A short read has emptied the socket, and what comes later is a new edge. But an end that is
	// known to be there needs a read of its own.
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
		// All is sent, nothing is left over, and keep and settle would change nothing.
		if c.is(unread) {
			cs.goOn(c)
		}
	case !cs.store.keep(c.slot, b):
		panic("pool: the spare block was taken during a full turn")
	default:
		cs.settle(c, before)
	}
}

// firstTurn answers what was read from an adopted connection before it arrived.
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
	default: // the input is not in the kernel any more, and cannot be kept either
		cs.end(c, OutOfMemory)
	}
}
