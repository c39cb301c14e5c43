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
// so that nothing can be kept. It takes from the kernel no more than it is
// done with: it looks without taking (MSG_PEEK), and only if the socket has room for the
// reply; it cuts unfinished frames through; and what is not enough for that, the rest,
// it leaves where it is. So a connection whose peer does not read waits in
// TCP, and one whose peer does is echoed as ever, at the price of two more system calls.
func (w *worker) frugalTurn(fd int, s *slot) {
	w.count.FrugalTurns++
	if !netpoll.Writable(fd) {
		// It stays unread, and has its turn when there is room. Room that
		// has come since is not missed. Once armed it stays so: to arm it again
		// would be to be told again of the input that is there, for ever.
		if !s.is(armed) {
			w.arm(fd, s)
		}
		return
	}
	b := w.open(s)
	held := b.End - b.Start
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
			return
		}
	}
	b.End += n
	before := s.proto.Phase()
	w.endpoint.Receive(&s.proto, b, false)

	rest := b.End - b.Start
	if rest == held+n {
		// Not even a header: it is all still where it was. If the end is behind it,
		// it will never be whole.
		if s.is(ended) {
			w.take(fd, n) // to close with bytes unread is to reset
			w.heard(s, n)
			w.end(fd, s, Vanished)
		}
		return
	}
	if rest > n {
		panic("pool: a frugal turn has taken part of what was held")
	}
	b.End -= rest // it stays in the kernel
	w.take(fd, n-rest)
	w.heard(s, n-rest)
	if !w.send(fd, s, b) {
		return
	}
	if !w.keep(s, b) {
		// The kernel had room and then had not: it is out of memory itself.
		w.end(fd, s, OutOfMemory)
		return
	}
	w.settle(fd, s, before)
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
