// Package arena allocates the memory that connections hold between two turns: for unfinished
// frames, and for output that the kernel has not accepted yet. An arena never grows, so its size
// limits the memory of all connections together.
package arena

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"sync"
	"unsafe"

	"wsecho/internal/offheap"
)

// An Arena is a buddy allocator over memory outside Go's heap. The memory is divided into chunks. A
// block is a chunk or one half of a larger block, so its size is a power of two; when both halves
// are free they merge. A [Block] is the index of the block's first unit plus one, not a pointer, so
// it can be part of a connection's slot.
//
// Some chunks are set aside for short blocks, because a connection cannot do without those: a
// long frame can be cut through, but a part of a ping must be kept.
//
// All methods may be called by any goroutine. An operation holds the mutex for tens of
// nanoseconds, and workers call them only if they have something to keep.
type Arena struct {
	mem   []byte
	top   int // order of a chunk
	aside int // the first aside chunks are for short blocks only

	mu    sync.Mutex // protects the fields below, and the links in free blocks
	order []uint8    // by unit: order of the block that begins there, plus one; with freeBit if it is free
	zones [2]zone
	idle  []uint8 // by chunk: if it is free, the number of Trim calls until its pages are released
	used  int     // bytes in allocated blocks
}

// A zone holds the free blocks of either the ordinary chunks or those set aside.
type zone struct {
	lists  []Block  // by order below top: the first free block
	chunks []uint32 // the free chunks, the most recently freed one last
}

const (
	forAll = iota
	forShort
)

// A Block names an allocated block of an [Arena]. Zero means none.
type Block uint32

const (
	unitShift  = 6 // the smallest block is a cache line
	freeBit    = 0x80
	shortOrder = 2 // 256 bytes: a control frame and its bookkeeping
)

// links is stored in a free block that is smaller than a chunk: its neighbours in the list of
// its order.
type links struct{ prev, next Block }

// New returns an arena of the given number of chunks. The chunkSize is in bytes and a power of two.
// The first aside chunks serve only blocks of at most 256 bytes. The error is that of mmap(2), or
// reports that the arena has more blocks than a Block can number.
func New(chunks, aside, chunkSize int) (*Arena, error) {
	units := chunks * chunkSize >> unitShift
	if uint64(units) >= 1<<32-1 {
		return nil, fmt.Errorf("an arena of %d MiB has more blocks than can be numbered", chunks*chunkSize>>20)
	}
	mem, err := offheap.Make[byte](chunks * chunkSize)
	if err != nil {
		return nil, err
	}
	order, err := offheap.Make[uint8](units)
	if err != nil {
		offheap.Free(mem)
		return nil, err
	}
	top := bits.TrailingZeros(uint(chunkSize)) - unitShift
	a := &Arena{mem: mem, top: top, aside: aside, order: order, idle: make([]uint8, chunks)}
	for i := range a.zones {
		a.zones[i].lists = make([]Block, top)
	}
	for c := chunks - 1; c >= 0; c-- {
		z := a.zoneOf(Block(c<<top) + 1)
		z.chunks = append(z.chunks, uint32(c))
	}
	return a, nil
}

// zoneOf returns the zone that a block belongs to.
func (a *Arena) zoneOf(b Block) *zone {
	if int(b-1)>>a.top < a.aside {
		return &a.zones[forShort]
	}
	return &a.zones[forAll]
}

// Close unmaps the memory. No block may be used afterwards.
func (a *Arena) Close() {
	offheap.Free(a.mem)
	offheap.Free(a.order)
}

// Alloc returns a block of at least size bytes, with arbitrary content, or 0 if none is free.
func (a *Arena) Alloc(size int) Block {
	want := orderOf(size)
	if want > a.top {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b, o := a.take(&a.zones[forAll], want)
	if b == 0 && want <= shortOrder {
		b, o = a.take(&a.zones[forShort], want)
	}
	if b == 0 {
		return 0
	}
	for o > want { // keep the lower half, free the upper
		o--
		a.push(b+1<<o, o)
	}
	a.order[b-1] = uint8(want) + 1
	a.used += 1 << (want + unitShift)
	return b
}

// take removes and returns a zone's smallest free block of at least order want.
func (a *Arena) take(z *zone, want int) (Block, int) {
	for o := want; o < a.top; o++ {
		if b := z.lists[o]; b != 0 {
			a.unlink(b, o)
			return b, o
		}
	}
	if len(z.chunks) == 0 {
		return 0, 0
	}
	last := len(z.chunks) - 1
	c := z.chunks[last]
	z.chunks = z.chunks[:last]
	return Block(c<<a.top) + 1, a.top
}

// Release frees a block. It panics if the block is already free.
func (a *Arena) Release(b Block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := int(a.order[b-1]) - 1
	if o < 0 || o > a.top {
		panic("arena: block released twice")
	}
	a.used -= 1 << (o + unitShift)
	a.order[b-1] = 0
	for o < a.top {
		buddy := (b - 1) ^ 1<<o + 1
		if a.order[buddy-1] != freeBit|uint8(o+1) {
			break
		}
		a.unlink(buddy, o)
		b = min(b, buddy)
		o++
	}
	if o < a.top {
		a.push(b, o)
		return
	}
	c := uint32(b-1) >> a.top
	a.idle[c] = 2
	z := a.zoneOf(b)
	z.chunks = append(z.chunks, c)
}

// Trim returns pages of free chunks to the system. A chunk must be free for one to two calls before
// its pages are returned. Trim examines all free chunks but returns at most eight, so that other
// callers do not wait long for the mutex. It reports whether there may be more to return. Chunks
// that are smaller than a page of the system, which has up to 64 KiB on arm64, are never returned.
func (a *Arena) Trim() (more bool) {
	size := 1 << (a.top + unitShift)
	if size < os.Getpagesize() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	limit := 8 // chunks
	for _, c := range slices.Concat(a.zones[forAll].chunks, a.zones[forShort].chunks) {
		switch a.idle[c] {
		case 2:
			a.idle[c] = 1
			more = true
		case 1:
			if limit == 0 {
				return true
			}
			limit--
			a.idle[c] = 0
			offheap.Discard(a.mem[int(c)*size:][:size])
		}
	}
	return more
}

// Bytes returns the memory of a block. Its length is the size of the block, which may be more than
// was requested.
func (a *Arena) Bytes(b Block) []byte {
	size := 1 << (a.order[b-1] - 1 + unitShift)
	return a.mem[int(b-1)<<unitShift:][:size:size]
}

// Used returns the total size in bytes of all allocated blocks.
func (a *Arena) Used() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// Size returns the size of the arena in bytes.
func (a *Arena) Size() int { return len(a.mem) }

func (a *Arena) push(b Block, o int) {
	z := a.zoneOf(b)
	next := z.lists[o]
	*a.links(b) = links{next: next}
	if next != 0 {
		a.links(next).prev = b
	}
	z.lists[o] = b
	a.order[b-1] = freeBit | uint8(o+1)
}

func (a *Arena) unlink(b Block, o int) {
	l := *a.links(b)
	if l.prev != 0 {
		a.links(l.prev).next = l.next
	} else {
		a.zoneOf(b).lists[o] = l.next
	}
	if l.next != 0 {
		a.links(l.next).prev = l.prev
	}
	a.order[b-1] = 0
}

func (a *Arena) links(b Block) *links {
	return (*links)(unsafe.Pointer(&a.mem[int(b-1)<<unitShift]))
}

// orderOf returns the order of the smallest block of at least size bytes.
func orderOf(size int) int {
	units := (size + 1<<unitShift - 1) >> unitShift
	return bits.Len(uint(max(units, 1) - 1))
}
