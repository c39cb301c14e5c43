package pool

import (
	"unsafe"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// What a connection keeps from one turn to the next lies in one block of the
// arena: output that the kernel has not taken (the write backlog), and the rest of the
// input that was not enough for a frame or a request. Most keep nothing.
//
//	| heldHeader | … | unsent | rest | … |
//	             from^
//
// A worker works in its own buffer, into which a short rest is copied. A long
// one stays where it is and more is read behind it, so that a long frame that comes a byte at a
// time is not copied for every byte; such a block has room before and
// behind like any buffer that replies are made in.

// heldHeader is at the front of a block that is held.
type heldHeader struct {
	from   uint32 // where unsent begins
	unsent uint32
	rest   uint32
}

const (
	headerRoom = 16
	_          = uint(echo.Headroom - headerRoom) // a header fits in front of a buffer's input

	// shortRest is how long a rest may be to be copied to the worker's buffer.
	shortRest = 1024
)

func (w *worker) heldHeader(b block) *heldHeader {
	return (*heldHeader)(unsafe.Pointer(&w.pool.arena.bytes(b)[0]))
}

// unsent is the connection's write backlog.
func (w *worker) unsent(s *slot) []byte {
	if s.held == 0 {
		return nil
	}
	h := w.heldHeader(s.held)
	return w.pool.arena.bytes(s.held)[h.from:][:h.unsent]
}

// rest is the connection's unfinished input.
func (w *worker) rest(s *slot) []byte {
	if s.held == 0 {
		return nil
	}
	h := w.heldHeader(s.held)
	return w.pool.arena.bytes(s.held)[h.from+h.unsent:][:h.rest]
}

// hasUnsent says whether the connection has a write backlog.
func (w *worker) hasUnsent(s *slot) bool {
	return s.held != 0 && w.heldHeader(s.held).unsent > 0
}

// open returns a buffer with the connection's rest as input. There is no write
// backlog. Until keep or letGo the connection still holds its block.
func (w *worker) open(s *slot) *echo.Buffer {
	b := &w.work
	b.Bytes, b.Start, b.End, b.Seen = w.buffer, echo.Headroom, echo.Headroom, 0
	if s.held == 0 {
		return b
	}
	h := w.heldHeader(s.held)
	mem := w.pool.arena.bytes(s.held)
	from, rest := int(h.from+h.unsent), int(h.rest)
	room := len(mem) - echo.Tailroom - from
	inPlace := room >= 2*rest || from == echo.Headroom && len(mem) == len(w.buffer)
	if w.spareTaken {
		// A frugal turn needs no room to read a frame whole, but memory for what the kernel
		// does not take of its echo; there is no other. A request it needs whole.
		inPlace = s.proto.Phase() != echo.Handshake
	}
	if rest > shortRest && inPlace {
		b.Bytes, b.Start, b.End = mem, from, from+rest
	} else {
		b.End += copy(b.Bytes[b.Start:], mem[from:][:rest])
	}
	b.Seen = rest
	return b
}

// keep makes the connection hold what is left in the buffer that open has
// returned: output that the kernel has not taken, and rest. It says whether there was memory
// for it.
func (w *worker) keep(s *slot, b *echo.Buffer) bool {
	unsent, rest := b.Bytes[b.Out:b.OutEnd], b.Bytes[b.Start:b.End]
	if s.held == 0 || &b.Bytes[0] == &w.buffer[0] {
		if len(unsent)+len(rest) == 0 {
			w.letGo(s)
			return true
		}
		return w.hold(s, unsent, rest) || w.refill(s, unsent, rest)
	}
	// The buffer is the block. What is little in it moves to a smaller one.
	n, from := len(unsent)+len(rest), b.Out
	if len(unsent) == 0 {
		from = b.Start
	}
	stays := from >= headerRoom // a refusal lies where the header does
	switch {
	case n == 0:
		w.letGo(s)
		return true
	case n < len(b.Bytes)/8 || !stays:
		if w.hold(s, unsent, rest) {
			return true
		}
	}
	if stays {
		copy(b.Bytes[from+len(unsent):], rest)
		*w.heldHeader(s.held) = heldHeader{from: uint32(from), unsent: uint32(len(unsent)), rest: uint32(len(rest))}
	}
	return stays
}

// hold makes the connection hold copies of unsent and rest, in place of what it held.
// Both may lie in what it held.
func (w *worker) hold(s *slot, unsent, rest []byte) bool {
	from, size := w.layout(len(unsent), len(rest))
	next := w.pool.arena.alloc(size)
	if next == 0 {
		next = w.takeSpare()
	}
	if next == 0 {
		return false
	}
	if next == w.spare {
		w.hoarder = s
	}
	w.move(s, next, from, unsent, rest)
	return true
}

// move makes the connection hold copies of unsent and rest in the given block.
func (w *worker) move(s *slot, next block, from int, unsent, rest []byte) {
	mem := w.pool.arena.bytes(next)
	n := copy(mem[from:], unsent)
	copy(mem[from+n:], rest)
	w.letGo(s)
	s.held = next
	*w.heldHeader(next) = heldHeader{from: uint32(from), unsent: uint32(len(unsent)), rest: uint32(len(rest))}
}

// refill makes the connection hold copies of unsent and rest where it held
// what open has copied to the buffer, if there is room. What does not fit leaves
// that as it was: it is not given back before there is another place, for
// somebody else may be faster.
func (w *worker) refill(s *slot, unsent, rest []byte) bool {
	if s.held == 0 {
		return false
	}
	mem := w.pool.arena.bytes(s.held)
	if headerRoom+len(unsent)+len(rest) > len(mem) {
		return false
	}
	n := copy(mem[headerRoom:], unsent)
	copy(mem[headerRoom+n:], rest)
	*w.heldHeader(s.held) = heldHeader{from: headerRoom, unsent: uint32(len(unsent)), rest: uint32(len(rest))}
	return true
}

// letGo gives back what the connection holds.
func (w *worker) letGo(s *slot) {
	if s.held == 0 {
		return
	}
	if s.held == w.spare {
		w.spareTaken = false
	} else {
		w.pool.arena.release(s.held)
		w.untidy = true
	}
	s.held = 0
}

// layout says where unsent begins in the block that holds so much, and how
// large that is.
func (w *worker) layout(unsent, rest int) (from, size int) {
	if rest <= shortRest {
		return headerRoom, headerRoom + unsent + rest
	}
	// Room to be a buffer of its own, and for as much again.
	return echo.Headroom, min(echo.Headroom+unsent+2*rest+echo.Tailroom, len(w.buffer))
}

// takeSpare is the last resort. Each worker has one block, as large as its
// buffer and beyond the budget, so that a turn that began with it
// free never ends with something that cannot be kept. Until the connection
// that has it gives it back, turns are frugal.
func (w *worker) takeSpare() block {
	if w.spareTaken {
		return 0
	}
	w.spareTaken = true
	return w.spare
}

// regainSpare moves what is in the spare block to another, if there is memory
// for it by now. Otherwise a peer that sends half a frame in a moment of need, and never
// the other half, would make all turns frugal for as long as it likes.
func (w *worker) regainSpare() bool {
	s := w.hoarder
	unsent, rest := w.unsent(s), w.rest(s)
	from, size := w.layout(len(unsent), len(rest))
	next := w.pool.arena.alloc(size)
	if next == 0 {
		return false
	}
	w.move(s, next, from, unsent, rest)
	return true
}

// flush sends what it can of the write backlog. It says how much that was.
func (w *worker) flush(fd int, s *slot) (int, error) {
	unsent := w.unsent(s)
	n, err := netpoll.Send(fd, unsent)
	w.count.BytesOut += uint64(n)
	h := w.heldHeader(s.held)
	h.from += uint32(n)
	h.unsent -= uint32(n)
	if h.unsent+h.rest == 0 {
		w.letGo(s)
	}
	return n, err
}
