package pool

import (
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// frugalRead is how much a frugal turn looks at, unless a request may be
// longer. It is less than the third of a socket's send buffer that must be free for it to
// count as writable, whatever the system's settings.
const frugalRead = 4096

// frugalTurn is a turn when the budget and the worker's spare block are spent,
// so that next to nothing can be kept. It takes from the kernel no more than it is
// done with: it looks without taking (MSG_PEEK), and only if the socket has room for the
// reply, and it cuts unfinished frames through. So a connection whose peer does not read waits in
// TCP, and one whose peer does is echoed as ever, at the price of two more system calls.
//
// What is left over after that is the beginning of a request, which may stay
// in the kernel, or less than a control frame. That is kept in the memory set
// aside for it. It had better not stay in the kernel: few bytes can be the last of a run of
// segments that the kernel has put together, whose memory is not given back before they are
// read, and which can be all that the receive buffer may have. There is no window then for the rest to come through.
func (w *worker) frugalTurn(fd int, s *slot) {
	w.count.FrugalTurns++
	w.pool.warnings.budget.note()
	if !netpoll.Writable(fd) {
		w.park(fd, s)
		return
	}
	starves := s.is(starved)
	s.clear(parked | starved)
	b := w.open(s)
	room := min(max(frugalRead, w.pool.cfg.Echo.MaxHeader+1), len(b.Bytes)-echo.Tailroom-b.End)
	n := 0
	if room > 0 { // else what is held leaves none, and makes some by being cut through
		var err error
		if n, err = netpoll.Peek(fd, b.Bytes[b.End:b.End+room]); err != nil {
			w.lost(fd, s, err)
			return
		}
		if n < room && !s.is(ended) || n == 0 {
			s.clear(unread)
		}
		if n == 0 {
			w.count.EmptyReads++
			w.watch(fd, s)
			return
		}
	}
	b.End += n
	before := s.proto.Phase()
	w.endpoint.Receive(&s.proto, b, false)
	left := b.End - b.Start // in the kernel
	switch {
	case s.proto.Phase() == echo.Handshake:
		left = n // and what was held before, is
	case !w.send(fd, s, b):
		return
	case w.keep(s, b):
		left = 0
	case left > n: // what was held stays held
		left = n
		w.starve(fd, s, starves)
	default:
		b.End = b.Start
		if !w.keep(s, b) {
			// There was room for the reply and then there was not.
			w.end(fd, s, OutOfMemory)
			return
		}
		w.starve(fd, s, starves)
	}
	if left < n {
		w.take(fd, n-left)
		w.heard(s, n-left)
	}
	if left > 0 && s.is(ended) {
		w.take(fd, left) // to close with bytes unread is to reset
		w.end(fd, s, Vanished)
		return
	}
	w.settle(fd, s, before)
}

// starve notes that less than a frame stays in the kernel, for want of memory;
// the next sweep tries again. Meanwhile there must be room for the rest of it.
func (w *worker) starve(fd int, s *slot, already bool) {
	s.set(starved)
	if !already {
		netpoll.Widen(fd)
	}
}

// forgo ends a connection that has input of which nothing can be kept, and that is not in
// the kernel either.
func (w *worker) forgo(fd int, s *slot) {
	if s.proto.Phase() == echo.Handshake {
		w.refuse(fd, s, echo.RefuseFull)
		return
	}
	w.end(fd, s, OutOfMemory)
}

// park leaves a connection alone until the kernel has room for a reply, which
// an event tells; it stays unread, and has its turn then. Its peer has as long to make room as one with
// a write backlog.
func (w *worker) park(fd int, s *slot) {
	if !s.is(parked) {
		s.set(parked)
		w.restart(s)
	}
	// Once armed it stays so. To arm it again would be to be told again of the
	// input that is there, for ever.
	if s.is(armed) || w.arm(fd, s) {
		w.watch(fd, s)
	}
}

// take takes n bytes from the kernel that have been looked at before. Where
// they were put then is the reply by now.
func (w *worker) take(fd int, n int) {
	for n > 0 {
		k, err := netpoll.Recv(fd, w.scratch[:min(n, len(w.scratch))])
		if err != nil || k == 0 {
			return // a reset has come in between; the reply's write will say so
		}
		n -= k
	}
}
