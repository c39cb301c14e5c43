package pool

import (
	"math/bits"
	"time"

	"github.com/gobwas/ws"

	"wsecho/internal/echo"
)

// sweepEvery is the time between two looks at deadlines, and so about the
// lateness of each.
const (
	sweepEvery = 4 // ticks
	sweepTime  = sweepEvery * tickTime

	trimEvery = 64 // ticks: about a second

	// sweepSlice is how many words of the set, of 64 descriptors each, a sweep
	// looks at: at least so many, and at least a sixteenth. So up to 65,536
	// descriptors are looked at every time, and millions once a second.
	sweepSlice = 1024
)

// deadlines is the set of a worker's connections that have one. A worker with
// none sleeps until something happens.
type deadlines struct {
	set  fdSet
	n    int  // members
	high int  // no member is higher
	at   int  // the word where the next sweep begins
	last tick // when the last one was
}

// limit is the timeout that applies to a connection now, counted from its
// since; 0 if none does.
func (w *worker) limit(s *slot) time.Duration {
	cfg := &w.pool.cfg
	switch {
	case s.is(shut):
		return cfg.LingerTimeout
	case w.hasUnsent(s), s.is(parked):
		return cfg.WriteTimeout
	}
	switch s.proto.Phase() {
	case echo.Handshake:
		return cfg.HandshakeTimeout
	case echo.Open:
		return cfg.IdleTimeout
	case echo.CloseSent:
		return cfg.CloseTimeout
	}
	return 0
}

// watch puts a connection into the set, or out of it, after anything has
// happened to it that limit looks at.
func (w *worker) watch(fd int, s *slot) {
	on := w.limit(s) > 0 || s.is(starved)
	switch {
	case !on:
		w.forget(fd, s)
	case !s.is(timed):
		s.set(timed)
		w.timed.set.add(fd)
		w.timed.n++
		w.timed.high = max(w.timed.high, fd)
	}
}

// forget puts a connection out of the set, if it is in it.
func (w *worker) forget(fd int, s *slot) {
	if s.is(timed) {
		s.clear(timed)
		w.timed.set.remove(fd)
		w.timed.n--
	}
}

// sweep looks at the deadlines of a part of the connections that have one, if
// it is time to.
func (w *worker) sweep() {
	t := &w.timed
	if w.now-t.last < sweepEvery {
		return
	}
	t.last = w.now
	w.listenAgain()
	if w.untidy && w.now%trimEvery < sweepEvery {
		w.untidy = w.pool.arena.trim()
	}
	if w.draining && !w.hurried && int32(w.now-w.hurryAt) >= 0 {
		w.hurry()
	}
	if w.draining && int32(w.now-w.cutAt) >= 0 {
		w.mine.each(func(fd int) { w.end(fd, &w.pool.slots[fd], CutByShutdown) })
		return
	}
	if t.n == 0 {
		return
	}
	words := t.high>>6 + 1
	for range min(words, max(sweepSlice, words/16)) {
		if t.at >= words {
			t.at = 0
		}
		for word := t.set[t.at]; word != 0; word &= word - 1 {
			fd := t.at<<6 + bits.TrailingZeros64(word)
			w.check(fd, &w.pool.slots[fd])
		}
		t.at++
	}
}

// check sees whether a connection's time is over.
func (w *worker) check(fd int, s *slot) {
	if s.is(starved) {
		s.set(unread) // the next look is what it waits for
		w.goOn(fd, s)
	}
	limit := ticks(w.limit(s))
	waited := w.now - s.since
	unread := false // the peer has yet to take what it was sent
	if w.delivers(fd, s) && waited >= firstLook(limit) {
		waited, limit, unread = w.outstanding(fd, s, limit)
	}
	if waited < limit {
		if s.proto.Phase() == echo.Open && waited >= limit/3 && !w.hasUnsent(s) && !s.is(parked) {
			w.ping(fd, s)
		}
		return
	}
	switch {
	case limit == 0 && s.is(starved):
	case limit == 0:
		panic("pool: a connection without a deadline stands among those that have one")
	case w.hasUnsent(s), s.is(parked), unread && s.proto.Phase() != echo.Open:
		w.end(fd, s, WriteTimedOut)
	case s.is(shut):
		w.end(fd, s, Completed)
	case s.proto.Phase() == echo.Handshake:
		w.refuse(fd, s, echo.RefuseTooSlow)
	case s.proto.Phase() == echo.Open:
		w.count.IdleTimeouts++
		w.goodbye(fd, s, "nothing was heard for too long")
	case s.proto.Phase() == echo.CloseSent:
		w.end(fd, s, CloseTimedOut)
	}
}

// ping asks a silent peer for a sign of life, once. The peer may be busy with output that came before.
func (w *worker) ping(fd int, s *slot) {
	if s.is(pinged) {
		return
	}
	s.set(pinged)
	s.clear(marked)
	w.look(fd, s)
	w.say(fd, s, w.endpoint.Ping)
}

const goingAway = "the server is shutting down"

// goodbye ends a connection with close code 1001, or with 503 before it is
// one.
func (w *worker) goodbye(fd int, s *slot, reason string) {
	w.say(fd, s, func(dst []byte) []byte {
		return w.endpoint.Goodbye(dst, &s.proto, ws.StatusGoingAway, reason)
	})
}

// refuse answers a request that is not whole yet.
func (w *worker) refuse(fd int, s *slot, r *echo.Refusal) {
	w.say(fd, s, func(dst []byte) []byte { return w.endpoint.Refuse(dst, &s.proto, r) })
}

// say sends what was not asked for, behind the write backlog if there is one.
// It is left unsaid if there is no memory for it there: what is in the backlog is more.
func (w *worker) say(fd int, s *slot, what func(dst []byte) []byte) {
	before := s.proto.Phase()
	backlog := w.unsent(s)
	proto, count := s.proto, w.endpoint.Count
	out := what(append(w.buffer[:0], backlog...))
	if len(backlog) > 0 {
		if len(out) > len(backlog) && !w.hold(s, out, w.rest(s)) {
			s.proto, w.endpoint.Count = proto, count
			return
		}
		w.backlog.bytes += len(out) - len(backlog)
		return
	}
	b := &echo.Buffer{Bytes: w.buffer, OutEnd: len(out)}
	if !w.send(fd, s, b) {
		return
	}
	if b.Out < b.OutEnd && !w.hold(s, out[b.Out:], w.rest(s)) {
		w.end(fd, s, OutOfMemory)
		return
	}
	w.settle(fd, s, before)
}
