package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// turnBytes is the most that a turn reads, unless it is of one long frame, for
// which it may fill the buffer. A frame of 64 KiB fits with its header. Of the shortest
// frames, 11,008 do, which take the worker a fraction of a millisecond; so with a hundred
// connections that flood it with those, one that does not waits for tens of milliseconds.
const turnBytes = 64<<10 + 512

// turn reads what a connection has sent, once, and answers it. One read is
// also the most that a connection gets before the others have had their
// turn; if there is more, the connection goes on at the next pass.
//
// A connection with a write backlog does not get a turn: its peer must read
// before it is read from.
//
// All of the usual turn is here and not in functions of its own: after a system call the processor
// has forgotten where returns lead to, and each takes as long as the work between two.
func (w *worker) turn(fd int, s *slot) {
	switch {
	case !s.is(unread) || w.hasUnsent(s):
		return
	case s.is(shut):
		w.linger(fd, s)
		return
	case s.is(spare) && s.proto.Phase() == echo.Handshake:
		w.turnAway(fd, s)
		return
	case w.spareTaken && !w.regainSpare():
		w.frugalTurn(fd, s)
		return
	case s.is(parked | starved):
		s.clear(parked | starved)
		w.watch(fd, s)
	}

	b := w.open(s)
	room := b.Bytes[b.End : len(b.Bytes)-echo.Tailroom]
	if !s.proto.InLongFrame() && b.Seen <= shortRest {
		room = room[:min(len(room), turnBytes)]
	}
	n, err := netpoll.Recv(fd, room)
	if err != nil {
		w.lost(fd, s, err)
		return
	}
	// A read that could have been longer has emptied the socket, and what comes
	// later is a new edge. But an end that is known to be there has to be read for itself.
	if n < len(room) && !s.is(ended) || n == 0 {
		s.clear(unread)
	}
	if n == 0 {
		w.count.EmptyReads++
		return
	}
	b.End += n
	w.heard(s, n)

	before := s.proto.Phase()
	w.endpoint.Receive(&s.proto, b, true)
	switch {
	case !w.send(fd, s, b):
	case s.held == 0 && b.Start == b.End && b.Out == b.OutEnd && s.proto.Phase() == before:
		// All is sent, nothing is left, and nothing has changed that keep or settle would see to.
		if s.is(unread) {
			w.goOn(fd, s)
		}
	case !w.keep(s, b):
		panic("pool: the spare was taken during a full turn")
	default:
		w.settle(fd, s, before)
	}
}

// heard notes that n bytes were read.
func (w *worker) heard(s *slot, n int) {
	w.count.BytesIn += uint64(n)
	s.bytes += uint64(n)
	if s.proto.Phase() == echo.Open {
		s.since = w.now
		s.clear(pinged)
	}
}

// send sends the output in the buffer, as far as the kernel takes it. It says
// whether the connection is still there.
func (w *worker) send(fd int, s *slot, b *echo.Buffer) bool {
	if b.Out == b.OutEnd {
		return true
	}
	n, err := netpoll.Send(fd, b.Bytes[b.Out:b.OutEnd])
	if err != nil {
		w.lost(fd, s, err)
		return false
	}
	w.count.BytesOut += uint64(n)
	b.Out += n
	return true
}

// settle sees to what follows from a turn. Phase is where the connection was before it.
func (w *worker) settle(fd int, s *slot, before echo.Phase) {
	if s.proto.Phase() != before {
		w.restart(s)
		if before == echo.Handshake && !refused(&s.proto) {
			w.count.Upgraded++
		}
	}
	switch {
	case w.hasUnsent(s):
		if !w.await(fd, s) {
			return
		}
	case s.proto.Phase() == echo.Done && !s.is(shut):
		w.shut(fd, s)
		return
	case s.is(unread):
		w.goOn(fd, s)
	}
	w.watch(fd, s)
}

// refused says whether the request was refused. Anything else that comes of it
// is a WebSocket, even if the same bytes have closed it.
func refused(s *echo.State) bool { return 0 < s.Code() && s.Code() < 1000 }

// await has the worker told when the kernel has room for a write backlog that
// has just come to be. Once a connection is watched for that it stays so: it has an event
// only after a write that took less than all. It says whether the connection is still there.
func (w *worker) await(fd int, s *slot) bool {
	w.restart(s)
	w.count.Backlogs++
	w.backlogged(s)
	return s.is(armed) || w.arm(fd, s)
}

// arm watches a connection for room to write. Room that is there already is
// reported too.
func (w *worker) arm(fd int, s *slot) bool {
	if err := w.poller.Modify(fd, s.gen, netpoll.ReadWrite); err != nil {
		w.fail(fd, s, err)
		return false
	}
	s.set(armed)
	return true
}

// drainBacklog sends on after the kernel has said that it has room.
func (w *worker) drainBacklog(fd int, s *slot) {
	n, err := w.flush(fd, s)
	w.backlogSent(s, n)
	if err != nil {
		w.lost(fd, s, err)
		return
	}
	if n > 0 {
		w.restart(s)
	}
	if !w.hasUnsent(s) {
		w.settle(fd, s, s.proto.Phase())
	}
}
