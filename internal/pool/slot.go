package pool

import (
	"time"
	"unsafe"

	"wsecho/internal/arena"
	"wsecho/internal/echo"
)

// A slot holds the state of a connection, apart from the bytes in its held block. The table of
// slots is indexed by descriptor. It lies outside Go's heap and contains no pointers, so a million
// connections cost the garbage collector nothing.
//
// A slot belongs to the worker that owns the connection; no other goroutine reads it. It passes
// from worker to worker with its descriptor. The old owner clears the slot, updates the connection
// count (an atomic operation), then closes the descriptor. The new owner receives the descriptor
// from the worker that accepted it, and that worker has read the count after accepting.
type slot struct {
	gen      uint32 // generation of the descriptor; part of its events, which exposes stale ones
	flags    flags
	turns    uint8       // turns since the drain began: see closeWhenAnswered
	activity activity    // see lifecycle.go; changed by update only
	since    tick        // start of the activity's timeout: see lifecycle.go
	opened   tick        // when the worker took the connection
	held     arena.Block // kept between turns: see store.go
	source   uint32      // returned by census.in
	bytes    uint64      // number of bytes read from the connection
	proto    echo.State
}

var _ [64]byte = [unsafe.Sizeof(slot{})]byte{} // a cache line

// listenerGen is the generation of listeners in events; no slot has it.
const listenerGen = 0

// flags are facts about a connection and its socket.
type flags uint16

const (
	inUse      flags = 1 << iota
	unread           // the kernel may have more input: no short read since the last edge
	ended            // the peer has sent FIN or TCP has failed: EOF or an error follows the unread bytes
	parked           // not read from until the socket is writable: see lowmemory.go
	starved          // part of a frame stays in the kernel because memory is short: see lowmemory.go
	armed            // watched for writability
	queued           // in the queue of connections that continue in the next pass
	shut             // our side of TCP is shut down
	timed            // a member of the worker's deadlines
	pinged           // a ping has been sent since the last bytes were read
	surplus          // beyond a limit: only to be refused, and not counted
	overSource       // that limit is MaxConnsPerIP
	behind           // its write backlog is counted: see store.go
	marked           // has a mark: see progress.go
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

// A conn is a connection: its descriptor and its slot. It is valid until the worker ends the
// connection; a [life] identifies a connection beyond that.
type conn struct {
	fd int
	*slot
}

// A life identifies a connection by its descriptor and the descriptor's generation.
type life struct {
	fd  int32
	gen uint32
}

func (c conn) life() life { return life{int32(c.fd), c.gen} }

// restart restarts the connection's timeout, because it has made progress or waits for something
// else.
func (s *slot) restart(now tick) {
	s.since = now
	s.clear(marked)
}

// A tick is monotonic time since the process began, in units of 2^24 ns, about 17 ms. It wraps
// around after two years, so differences of up to one year are meaningful.
type tick uint32

const (
	tickShift = 24
	tickTime  = time.Duration(1 << tickShift)

	// MaxTimeout is the longest timeout that ticks can measure.
	MaxTimeout = 365 * 24 * time.Hour
)

var began = time.Now()

// now returns the current time.
func now() tick { return tick(time.Since(began) >> tickShift) }

// ticks returns d in ticks, rounded up, so that only a timeout of zero is zero.
func ticks(d time.Duration) tick { return tick((d + tickTime - 1) >> tickShift) }

// reached reports whether t is at or after the deadline.
func (t tick) reached(deadline tick) bool { return int32(t-deadline) >= 0 }

// after returns the time between start and t.
func (t tick) after(start tick) time.Duration { return time.Duration(t-start) * tickTime }
