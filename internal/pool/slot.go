package pool

import (
	"time"
	"unsafe"

	"wsecho/internal/echo"
)

// A slot is everything there is to know about a connection. The table of slots
// is indexed by descriptor. It is mapped, not allocated, and holds no pointer:
// a million connections are nothing to the garbage collector.
//
// A slot belongs to the worker that the connection belongs to; nobody else
// looks at it. From one connection to the next on the same descriptor it
// passes from worker to worker with the descriptor: the old owner clears the slot, counts the
// connection out (an atomic operation), then closes; the new owner hears of the
// descriptor from whoever has accepted it and then looked at that count.
type slot struct {
	gen    uint32 // of the descriptor's life; goes into its events, so that late ones are known
	flags  flags
	turns  uint8 // since the pool began to drain: see seeOff
	_      uint8
	since  tick   // of what its limit counts from: see deadline.go
	opened tick   // when it came
	held   block  // what it keeps between turns: see held.go
	source uint32 // where it comes from, if that is counted: see perip.go
	bytes  uint64 // read from it
	proto  echo.State
}

var _ [64]byte = [unsafe.Sizeof(slot{})]byte{} // a cache line

// flags say what a worker must remember about a connection's socket.
type flags uint16

const (
	inUse     flags = 1 << iota
	unread          // the kernel may have more for us: an edge came, and no read since has come up short
	ended           // the peer has ended its side or failed: the end is to be read behind what bytes there are
	parked          // waits for room to write before it is read from: see frugal.go
	starved         // has less than a frame in the kernel, for want of memory: see frugal.go
	armed           // watched for room to write
	queued          // in the worker's queue of connections that go on
	shut            // our side is ended; we wait for the peer to end its own
	timed           // has a deadline, and stands in the worker's set of those
	pinged          // has been sent a ping since it was last heard of
	spare           // not counted against MaxConns, and only there to be turned away
	behind          // counted among those with a write backlog
	perSource       // turned away because of MaxConnsPerIP
	marked          // has a mark: see progress.go
)

func (s *slot) is(f flags) bool { return s.flags&f != 0 }
func (s *slot) set(f flags)     { s.flags |= f }
func (s *slot) clear(f flags)   { s.flags &^= f }

func (s *slot) put(f flags, on bool) {
	s.clear(f)
	if on {
		s.set(f)
	}
}

// tick is monotonic time since the process began, in units of 2^24 ns, about
// 17 ms. It wraps after two years; differences are good for one.
type tick uint32

const (
	tickShift = 24
	tickTime  = time.Duration(1 << tickShift)

	// MaxTimeout is the longest timeout that ticks can measure.
	MaxTimeout = 365 * 24 * time.Hour
)

var began = time.Now()

func now() tick { return tick(time.Since(began) >> tickShift) }

// ticks is d, rounded up, so that only a timeout of zero is none.
func ticks(d time.Duration) tick { return tick((d + tickTime - 1) >> tickShift) }

// fdSet is a set of descriptors of one worker.
type fdSet []uint64

func (s fdSet) add(fd int)      { s[fd>>6] |= 1 << (fd & 63) }
func (s fdSet) remove(fd int)   { s[fd>>6] &^= 1 << (fd & 63) }
func (s fdSet) has(fd int) bool { return s[fd>>6]&(1<<(fd&63)) != 0 }
