package pool

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// How a connection ends. The protocol's part is in echo.Phase; once that is
// Done and the last byte has been sent:
//
//	            flushed            peer's FIN, or LingerTimeout
//	echo.Done ──────────▶ shut ──────────────────────────────▶ closed
//
// shut: our side of TCP is ended, and what arrives is read and thrown away. To close at
// once would be to answer bytes still on their way with a reset, which can
// destroy the reply before the peer has read it (RFC 9112, section 9.6).
//
// A peer that ends or breaks TCP itself, and a timeout, lead to closed from
// everywhere.

// Reason is why a connection was closed.
type Reason uint8

const (
	Completed      Reason = iota // a close frame, or a refusal, was the last that we sent; Counters.Codes says which
	Vanished                     // the peer ended TCP without a close frame
	Broken                       // TCP failed: mostly, the peer reset it
	WriteTimedOut                // the peer did not read what it was sent
	CloseTimedOut                // the peer did not answer our close frame
	CutByShutdown                // it was left when the time to drain was over
	OutOfMemory                  // the kernel took no reply and there was no memory to keep it
	InternalFailed               // epoll would not have it
	numReasons
)

var reasonNames = [numReasons]string{
	Completed:      "completed",
	Vanished:       "vanished",
	Broken:         "broken",
	WriteTimedOut:  "write timeout",
	CloseTimedOut:  "close timeout",
	CutByShutdown:  "cut by shutdown",
	OutOfMemory:    "out of memory",
	InternalFailed: "internal failure",
}

func (r Reason) String() string { return reasonNames[r] }

// shut ends our side of TCP, after the last byte has been sent.
func (w *worker) shut(fd int, s *slot) {
	w.letGo(s)
	if err := netpoll.ShutdownWrite(fd); err != nil {
		w.end(fd, s, Completed) // the peer was faster
		return
	}
	s.set(shut)
	w.restart(s)
	if s.is(unread) {
		w.goOn(fd, s)
	}
	w.watch(fd, s)
}

// linger throws away what arrives after our side is shut, until the peer's end.
func (w *worker) linger(fd int, s *slot) {
	n, err := netpoll.Recv(fd, w.buffer)
	if err != nil {
		w.end(fd, s, Completed)
		return
	}
	w.count.BytesDiscarded += uint64(n)
	if n == len(w.buffer) || n > 0 && s.is(ended) {
		w.goOn(fd, s)
		return
	}
	s.clear(unread)
}

// lost closes a connection whose socket has said err.
func (w *worker) lost(fd int, s *slot, err error) {
	switch {
	case s.proto.Phase() == echo.Done:
		w.end(fd, s, Completed)
	case err == io.EOF:
		w.end(fd, s, Vanished)
	default:
		w.end(fd, s, Broken)
	}
}

// fail closes a connection that epoll refuses to watch: the kernel's limit of
// watches, or its memory, is at an end.
func (w *worker) fail(fd int, s *slot, err error) {
	w.pool.cfg.Log.Error("connection given up", "cause", err)
	w.end(fd, s, InternalFailed)
}

// unwatch ends the watching of a descriptor. It panics if that cannot be because of a bug of ours. If a
// security module forbids it, close does it, or the generation gives late events away.
func (w *worker) unwatch(fd int) {
	err := w.poller.Remove(fd)
	for _, bug := range []error{unix.EBADF, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, bug) {
			panic("pool: " + err.Error())
		}
	}
}

// end closes a connection. It is the only place that does: the descriptor is
// not watched any more, then the slot is cleared, then the descriptor is given back.
func (w *worker) end(fd int, s *slot, why Reason) {
	w.count.Ended[why]++
	w.tellClosed(fd, s, why)
	w.backlogGone(s)
	if code := s.proto.Code(); code != 0 {
		w.count.Codes[code]++
	}
	if why != InternalFailed {
		w.unwatch(fd)
	}
	w.letGo(s)
	w.forget(fd, s)
	w.mine.remove(fd)
	out := int64(1)
	if s.is(spare) {
		w.spares--
		out = 0
	}
	w.pool.perIP.countOut(s.source)
	*s = slot{gen: s.gen + 1}
	w.pool.open.Add(-out) // even 0: with this the slot is the next owner's, who looks at open first
	w.conns.Add(-1)
	netpoll.Close(fd)
}
