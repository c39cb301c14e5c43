package pool

import (
	"unsafe"

	"wsecho/internal/arena"
	"wsecho/internal/echo"
)

// A store is one worker's memory: its buffer, and the blocks that its connections hold from one
// turn to the next. Only the store reads and writes held blocks, apart from turns that work on one
// in place.
//
// A connection holds at most one block of the arena. The block contains the write backlog (unsent),
// which is output that the kernel has not taken, and unfinished input (rest), which is the
// beginning of a frame or request. Most connections hold nothing.
//
//	| heldHeader | … | unsent | rest | … |
//	             from^
//
// A turn works on the worker's buffer, into which a short rest is copied. A long rest stays in its
// block, and the next read appends to it, so that a long frame that arrives byte by byte is not
// copied for each byte. Such a block has headroom and tailroom like the buffer itself, since the
// reply is made in it.
//
// The spare block guarantees full turns. It is as large as the buffer and not part of the budget,
// so a turn that begins while it is free can always keep its output and input. While a connection
// holds the spare block, the worker takes low-memory turns (lowmemory.go).
type store struct {
	arena  *arena.Arena // shared by all workers
	buffer []byte       // empty between turns
	work   echo.Buffer  // what open returns; one turn uses it at a time

	spare      arena.Block
	spareOwner *slot // the connection that holds the spare block; nil: none

	scratch   []byte  // receives bytes that a low-memory turn has already peeked at
	needsTrim bool    // the arena may have pages to return to the system
	backlog   backlog // sum over the worker's connections
}

// backlog sums up write backlogs.
type backlog struct {
	conns int // number of connections that have one
	bytes int // in all of them
}

// heldHeader is at the front of a held block.
type heldHeader struct {
	from   uint32 // offset of unsent
	unsent uint32 // bytes
	rest   uint32 // bytes
}

const (
	headerRoom = 16
	_          = uint(echo.Headroom - headerRoom) // a heldHeader fits in front of a buffer's input

	// shortRest is the maximum length in bytes of a rest that is copied to the worker's buffer.
	shortRest = 1024

	scratchSize = 4096 // bytes
)

func newStore(a *arena.Arena, bufferSize int) store {
	return store{
		arena:   a,
		buffer:  make([]byte, bufferSize),
		spare:   a.Alloc(bufferSize),
		scratch: make([]byte, scratchSize),
	}
}

// open returns a buffer whose input is the connection's rest. The connection must not have a write
// backlog. It holds its block until keep or release.
func (st *store) open(s *slot) *echo.Buffer {
	b := &st.work
	b.Bytes, b.Start, b.End, b.Seen = st.buffer, echo.Headroom, echo.Headroom, 0
	if s.held == 0 {
		return b
	}
	h := st.header(s.held)
	mem := st.arena.Bytes(s.held)
	from, rest := int(h.from+h.unsent), int(h.rest)
	room := len(mem) - echo.Tailroom - from
	inPlace := room >= 2*rest || from == echo.Headroom && len(mem) == len(st.buffer)
	if st.spareOwner != nil {
		// A low-memory turn does not need room for a whole frame. But it may need memory for output
		// that the kernel does not take, and this block is the only memory. A request must be
		// complete.
		inPlace = s.proto.Phase() != echo.Handshake
	}
	if s.proto.Phase() == echo.Handshake && len(mem) < echo.MaxPage {
		inPlace = false // the page would not fit
	}
	if rest > shortRest && inPlace {
		b.Bytes, b.Start, b.End = mem, from, from+rest
	} else {
		b.End += copy(b.Bytes[b.Start:], mem[from:][:rest])
	}
	b.Seen = rest
	return b
}

// keep makes the connection hold the unsent output and the unfinished input of the buffer that open
// returned. It reports whether there was memory for them.
func (st *store) keep(s *slot, b *echo.Buffer) bool {
	unsent, rest := b.Bytes[b.Out:b.OutEnd], b.Bytes[b.Start:b.End]
	if s.held == 0 || &b.Bytes[0] == &st.buffer[0] {
		if len(unsent)+len(rest) == 0 {
			st.release(s)
			return true
		}
		return st.hold(s, unsent, rest) || st.refill(s, unsent, rest)
	}
	// The buffer is the held block. If it holds little data, the data moves to a smaller block.
	n, from := len(unsent)+len(rest), b.Out
	if len(unsent) == 0 {
		from = b.Start
	}
	stays := from >= headerRoom // a refusal is written over the header
	switch {
	case n == 0:
		st.release(s)
		return true
	case n < len(b.Bytes)/8 || !stays:
		if st.hold(s, unsent, rest) {
			return true
		}
	}
	if stays {
		copy(b.Bytes[from+len(unsent):], rest)
		st.setHeader(s, from, len(unsent), len(rest))
	}
	return stays
}

// release frees the block that the connection holds, if any.
func (st *store) release(s *slot) {
	if s.held == 0 {
		return
	}
	st.countOut(s)
	if s.held == st.spare {
		st.spareOwner = nil
	} else {
		st.arena.Release(s.held)
		st.needsTrim = true
	}
	s.held = 0
}

// roomForTurn reports whether a full turn is possible: the spare block is free. If a connection
// holds it, roomForTurn first tries to move that connection's data to an ordinary block. Otherwise
// a peer that sent half a frame while memory was short, and never sends the other half, would force
// low-memory turns for ever.
func (st *store) roomForTurn() bool {
	s := st.spareOwner
	if s == nil {
		return true
	}
	unsent, rest := st.unsent(s), st.rest(s)
	from, size := st.layout(len(unsent), len(rest))
	next := st.arena.Alloc(size)
	if next == 0 {
		return false
	}
	st.move(s, next, from, unsent, rest)
	return true
}

// unsent returns the connection's write backlog.
func (st *store) unsent(s *slot) []byte {
	if s.held == 0 {
		return nil
	}
	h := st.header(s.held)
	return st.arena.Bytes(s.held)[h.from:][:h.unsent]
}

// rest returns the connection's unfinished input.
func (st *store) rest(s *slot) []byte {
	if s.held == 0 {
		return nil
	}
	h := st.header(s.held)
	return st.arena.Bytes(s.held)[h.from+h.unsent:][:h.rest]
}

// hasUnsent reports whether the connection has a write backlog.
func (st *store) hasUnsent(s *slot) bool {
	return s.held != 0 && st.header(s.held).unsent > 0
}

// held returns the size in bytes of the block that the connection holds, or 0.
func (st *store) held(s *slot) int {
	if s.held == 0 {
		return 0
	}
	return len(st.arena.Bytes(s.held))
}

// sent removes n bytes, which the kernel has taken, from the front of the write backlog.
func (st *store) sent(s *slot, n int) {
	h := st.header(s.held)
	if int(h.unsent) == n && h.rest == 0 {
		st.release(s)
		return
	}
	st.setHeader(s, int(h.from)+n, int(h.unsent)-n, int(h.rest))
}

// hold makes the connection hold copies of unsent and rest in a new block, and releases its old
// block, of which both may be parts. It reports whether there was memory; if not, nothing changes.
func (st *store) hold(s *slot, unsent, rest []byte) bool {
	from, size := st.layout(len(unsent), len(rest))
	next := st.arena.Alloc(size)
	takesSpare := next == 0 && st.spareOwner == nil
	if takesSpare {
		next = st.spare
	}
	if next == 0 {
		return false
	}
	st.move(s, next, from, unsent, rest)
	if takesSpare {
		st.spareOwner = s
	}
	return true
}

// move makes the connection hold copies of unsent and rest in the block next, and releases its old
// one.
func (st *store) move(s *slot, next arena.Block, from int, unsent, rest []byte) {
	mem := st.arena.Bytes(next)
	n := copy(mem[from:], unsent)
	copy(mem[from+n:], rest)
	st.release(s)
	s.held = next
	st.setHeader(s, from, len(unsent), len(rest))
}

// refill makes the connection hold copies of unsent and rest in the block that it already holds,
// from which open has copied. If they do not fit, it reports false and changes nothing: the block
// must not be released before there is another one, because other workers might allocate it.
func (st *store) refill(s *slot, unsent, rest []byte) bool {
	if s.held == 0 {
		return false
	}
	mem := st.arena.Bytes(s.held)
	if headerRoom+len(unsent)+len(rest) > len(mem) {
		return false
	}
	n := copy(mem[headerRoom:], unsent)
	copy(mem[headerRoom+n:], rest)
	st.setHeader(s, headerRoom, len(unsent), len(rest))
	return true
}

// layout returns the offset of unsent in a block that holds the given numbers of bytes, and the
// size of that block.
func (st *store) layout(unsent, rest int) (from, size int) {
	if rest <= shortRest {
		return headerRoom, headerRoom + unsent + rest
	}
	// Room to serve as a buffer, and for the input to double.
	return echo.Headroom, min(echo.Headroom+unsent+2*rest+echo.Tailroom, len(st.buffer))
}

func (st *store) header(b arena.Block) *heldHeader {
	return (*heldHeader)(unsafe.Pointer(&st.arena.Bytes(b)[0]))
}

// setHeader writes the header of the connection's block, and counts its write backlog.
func (st *store) setHeader(s *slot, from, unsent, rest int) {
	st.countOut(s)
	*st.header(s.held) = heldHeader{from: uint32(from), unsent: uint32(unsent), rest: uint32(rest)}
	if unsent > 0 {
		s.set(behind)
		st.backlog.conns++
		st.backlog.bytes += unsent
	}
}

// countOut subtracts the connection's write backlog from the sum. If the backlog is counted, the
// header is valid: only a connection without a backlog is worked on in its block, where a refusal
// may overwrite the header.
func (st *store) countOut(s *slot) {
	if s.is(behind) {
		s.clear(behind)
		st.backlog.conns--
		st.backlog.bytes -= int(st.header(s.held).unsent)
	}
}

// trim returns unused pages of the arena to the system.
func (st *store) trim() { st.needsTrim = st.arena.Trim() }
