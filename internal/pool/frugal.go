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
// reply; it cuts unfinished frames through; and of what is not enough for that, an unfinished
// request stays where it is, and a header or a control frame has a scrap. So a connection whose
// peer does not read waits in TCP, and one whose peer does is echoed as ever, at the price of two
// more system calls.
func (w *worker) frugalTurn(fd int, s *slot) {
	w.count.FrugalTurns++
	if !netpoll.Writable(fd) {
		w.park(fd, s)
		return
	}
	s.clear(parked)
	b := w.open(s)
	held := b.End - b.Start
	room := min(max(frugalRead, w.pool.cfg.Echo.MaxHeader+1), len(b.Bytes)-echo.Tailroom-b.End)
	n, err := netpoll.Peek(fd, b.Bytes[b.End:b.End+room])
	if err != nil {
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
	b.End += n
	before := s.proto.Phase()
	w.endpoint.Receive(&s.proto, b, false)

	rest := b.End - b.Start
	if rest > n && rest < held+n {
		panic("pool: a frugal turn has taken part of what was held")
	}
	if s.proto.Phase() == echo.Handshake {
		// A request stays where it is until it is whole. If the end is behind it,
		// it will never be.
		if s.is(ended) {
			w.end(fd, s, Vanished)
			return
		}
		w.watch(fd, s)
		return
	}
	fresh := min(rest, n)
	b.End -= fresh // it stays in the kernel, for now
	w.take(fd, n-fresh)
	w.heard(s, n-fresh)
	if !w.send(fd, s, b) {
		return
	}
	if fresh > 0 && b.Out == b.OutEnd && rest <= scrapRest {
		w.heard(s, w.take(fd, fresh))
		b.End += fresh
	}
	if !w.keep(s, b) {
		// The kernel had room and then had not: it is out of memory itself.
		w.end(fd, s, OutOfMemory)
		return
	}
	w.settle(fd, s, before)
}

// park leaves a connection alone until the kernel has room for a reply, which
// an event tells; it stays unread, and has its turn then. Its peer has as long to make room as one with
// a write backlog.
func (w *worker) park(fd int, s *slot) {
	if !s.is(parked) {
		s.set(parked)
		s.since = w.now
	}
	// Once armed it stays so. To arm it again would be to be told again of the
	// input that is there, for ever.
	if s.is(armed) || w.arm(fd, s) {
		w.watch(fd, s)
	}
}

// take takes n bytes from the kernel that have been looked at before, and says
// how many those were. Where they were put then may be the reply by now.
func (w *worker) take(fd int, n int) (taken int) {
	for taken < n {
		k, err := netpoll.Recv(fd, w.scratch[:min(n-taken, len(w.scratch))])
		if err != nil || k == 0 {
			break // a reset has come in between; the reply's write will say so
		}
		taken += k
	}
	return taken
}
