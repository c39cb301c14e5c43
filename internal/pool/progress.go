package pool

import (
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// Whether a slow peer makes progress is asked of the kernel: progress is what the peer has acknowledged.
// That the kernel takes more of a backlog is progress too, but no measure: EPOLLOUT comes when a third of
// a send buffer of megabytes is free, which takes a peer that reads 32 KiB per second longer than
// WriteTimeout.
//
// A connection whose output waits for its peer is looked at 16 times within WriteTimeout. A look
// compares what is unacknowledged with a mark, which is what was unacknowledged when the peer last
// made progress. If at least minRate was acknowledged since then, that is progress, and WriteTimeout
// begins again. A peer that acknowledges less is treated like one that reads nothing.
//
// Bytes that are paid in advance lengthen the next wait, to twice WriteTimeout at most. A receiver opens
// its window in steps, of a segment or a sixteenth of its buffer: with loopback's segments of 64 KiB a
// peer that reads 4 KiB per second is silent for 32 s between two steps.
//
// The first look comes a sixteenth of WriteTimeout after the output began to wait, or 0.3 s if
// that is longer, and only sets the mark. What the peer acknowledges without reading it, because its
// receive buffer has room, it has acknowledged by then: the last of it comes after 0.2 s, since a segment
// that does not fit the window waits for the timer of window probes before it is split.

// minRate is the rate, in bytes per second, at which a peer certainly makes progress. At half of it
// it certainly does not; between them it depends on when the peer is looked at.
const minRate = 256

// A mark is what a connection's peer had left unacknowledged at some time. The table of marks is indexed
// by descriptor like the table of slots, and its pages too are untouched until used: few peers are slow.
// A mark means something if its slot has the flag marked.
type mark struct {
	unacked  uint32 // at the time of the mark
	at       tick   // the time of the mark
	progress tick   // when the peer made progress last, or its output began to wait
	credit   tick   // what the peer has paid for in advance
	left     uint32 // unacknowledged at the last look
	looked   tick   // the time of the last look
}

// restart begins the current timeout anew: the connection has made progress, or waits for something else.
func (w *worker) restart(s *slot) {
	s.since = w.now
	s.clear(marked)
}

// delivers reports whether the time of a connection depends on what its peer takes of the output: there
// is a backlog, or the close frame, the end of TCP or the ping whose answer the timeout is for may be
// behind output that the peer has not taken yet.
func (w *worker) delivers(fd int, s *slot) bool {
	switch {
	case w.hasUnsent(s), s.is(shut), s.proto.Phase() == echo.CloseSent:
		return true
	case s.proto.Phase() == echo.Open:
		return s.is(pinged) && s.is(marked) && w.pool.marks[fd].unacked > 0
	}
	return false
}

// firstLook is how long output waits before its peer is looked at.
func firstLook(limit tick) tick {
	return max(1, min(limit/2, max(nextLook(limit), ticks(300*time.Millisecond))))
}

// nextLook is the time between two looks.
func nextLook(limit tick) tick { return limit / 16 }

// outstanding returns how long a connection that delivers has waited, and for how long it may, given the
// timeout that applies otherwise; and whether the peer has yet to take what it was sent. It looks at the
// peer if it is time to, or if the connection would be given up otherwise.
func (w *worker) outstanding(fd int, s *slot, limit tick) (waited, patience tick, unread bool) {
	m := &w.pool.marks[fd]
	asOfLastLook := func() (tick, tick, bool) {
		waited := w.now - s.since
		if !w.waitsForRoom(s) && (waited < limit || m.left == 0) {
			return waited, limit, false
		}
		return w.now - m.progress, ticks(w.pool.cfg.WriteTimeout) + m.credit, true
	}
	if s.is(marked) && w.now-m.looked < nextLook(limit) {
		if waited, patience, unread = asOfLastLook(); waited < patience {
			return waited, patience, unread
		}
	}
	prolonged := s.is(marked) && m.left > 0 && m.looked-s.since >= limit
	w.look(fd, s)
	if prolonged && m.left == 0 && !w.waitsForRoom(s) {
		s.since = w.now // what the timeout waits for can only come from now on
	}
	return asOfLastLook()
}

// waitsForRoom reports whether the connection waits until the kernel has room for more output.
func (w *worker) waitsForRoom(s *slot) bool { return w.hasUnsent(s) || s.is(parked) }

// look compares what the peer has left unacknowledged with the mark.
func (w *worker) look(fd int, s *slot) {
	m := &w.pool.marks[fd]
	m.looked = w.now
	m.left = netpoll.Unacknowledged(fd)
	if s.is(shut) && m.left > 0 {
		m.left-- // the FIN is no output
	}
	if !s.is(marked) {
		s.set(marked)
		m.unacked, m.at, m.progress, m.credit = m.left, w.now, s.since, 0
		return
	}
	if m.left > m.unacked { // more was sent since
		m.unacked, m.at = m.left, w.now
		return
	}
	acked := m.unacked - m.left
	paid := ticks(time.Duration(acked) * time.Second / (minRate / 2))
	elapsed := w.now - m.at
	if acked == 0 || paid < elapsed {
		return
	}
	m.unacked, m.at, m.progress = m.left, w.now, w.now
	m.credit = min(paid-elapsed, ticks(w.pool.cfg.WriteTimeout))
	if w.waitsForRoom(s) {
		s.since = w.now
	}
}
