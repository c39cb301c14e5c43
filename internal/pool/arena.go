package pool

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"unsafe"
)

// An arena is the memory in which everything is kept that connections hold
// from one turn to the next: parts of frames, and output that the kernel
// would not take. It is as large as the budget, so the budget cannot be
// exceeded.
//
// It is a buddy allocator. Memory is divided into chunks; a block is a chunk, or
// half of a block: its size is a power of two, and when it is freed while its
// other half is free they become one again. A block is named by
// its first unit plus one, which is no pointer and fits a slot.
//
// Some chunks are set aside for short blocks, for which a connection has no
// substitute: a long frame can be cut through, half a ping cannot.
//
// All workers share it, under its mutex: it is asked only when something has to be
// kept, and answers within tens of nanoseconds.
type arena struct {
	mem   []byte
	top   int // order of a chunk
	aside int // the first so many chunks are for short blocks alone

	mu    sync.Mutex // protects what follows, and the links in free blocks
	order []uint8    // by unit: of the block that begins there, plus one; with freeBit if it is free
	zones [2]zone
	rest  []uint8 // by chunk: how many more trims until its pages are given back, if it is free
	used  int     // bytes in blocks that are not free
}

// zone is the free blocks of some chunks: of all, or of those set aside.
type zone struct {
	lists  []block  // by order below top: the first
	chunks []uint32 // last freed last
}

const (
	forAll = iota
	forShort
)

// block names a block of an arena. Zero is none.
type block uint32

const (
	unitShift  = 6 // the smallest block is a cache line
	freeBit    = 0x80
	shortOrder = 2 // 256 bytes: a control frame and what is said of it
)

// links are what a free block below a chunk's size holds: its neighbours in
// the list of its order.
type links struct{ prev, next block }

// newArena makes an arena of some chunks, whose size is a power of two, of
// which some are set aside.
func newArena(chunks, aside, chunkSize int) (*arena, error) {
	units := chunks * chunkSize >> unitShift
	if uint64(units) >= 1<<32-1 {
		return nil, fmt.Errorf("%d MiB are more than can be kept track of", chunks*chunkSize>>20)
	}
	mem, err := reserve[byte](chunks * chunkSize)
	if err != nil {
		return nil, err
	}
	order, err := reserve[uint8](units)
	if err != nil {
		unreserve(mem)
		return nil, err
	}
	top := bits.TrailingZeros(uint(chunkSize)) - unitShift
	a := &arena{mem: mem, top: top, aside: aside, order: order, rest: make([]uint8, chunks)}
	for i := range a.zones {
		a.zones[i].lists = make([]block, top)
	}
	for c := chunks - 1; c >= 0; c-- {
		z := a.zoneOf(block(c<<top) + 1)
		z.chunks = append(z.chunks, uint32(c))
	}
	return a, nil
}

// zoneOf is the zone that a block is from.
func (a *arena) zoneOf(b block) *zone {
	if int(b-1)>>a.top < a.aside {
		return &a.zones[forShort]
	}
	return &a.zones[forAll]
}

func (a *arena) close() {
	unreserve(a.mem)
	unreserve(a.order)
}

// alloc takes a block of at least size bytes; 0 if there is none.
func (a *arena) alloc(size int) block {
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

// take takes a zone's smallest free block of at least the given order.
func (a *arena) take(z *zone, want int) (block, int) {
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
	return block(c<<a.top) + 1, a.top
}

// release gives a block back.
func (a *arena) release(b block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := int(a.order[b-1]) - 1
	if o < 0 || o > a.top {
		panic("pool: block released twice")
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
	a.rest[c] = 2
	z := a.zoneOf(b)
	z.chunks = append(z.chunks, c)
}

// trim gives pages back to the system that have not been used for one to two
// trims. It looks at all free chunks, and gives back a few of them at the most, so that
// nobody waits long for the mutex. It says whether there may be more to give back.
func (a *arena) trim() (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	few := 8
	for _, c := range slices.Concat(a.zones[forAll].chunks, a.zones[forShort].chunks) {
		switch a.rest[c] {
		case 2:
			a.rest[c] = 1
			more = true
		case 1:
			if few == 0 {
				return true
			}
			few--
			a.rest[c] = 0
			size := 1 << (a.top + unitShift)
			release(a.mem[int(c)*size:][:size])
		}
	}
	return more
}

// bytes is the memory of a block, all of it.
func (a *arena) bytes(b block) []byte {
	size := 1 << (a.order[b-1] - 1 + unitShift)
	return a.mem[int(b-1)<<unitShift:][:size:size]
}

func (a *arena) push(b block, o int) {
	z := a.zoneOf(b)
	next := z.lists[o]
	*a.links(b) = links{next: next}
	if next != 0 {
		a.links(next).prev = b
	}
	z.lists[o] = b
	a.order[b-1] = freeBit | uint8(o+1)
}

func (a *arena) unlink(b block, o int) {
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

func (a *arena) links(b block) *links {
	return (*links)(unsafe.Pointer(&a.mem[int(b-1)<<unitShift]))
}

// orderOf is the order of the smallest block of at least size bytes.
func orderOf(size int) int {
	units := (size + 1<<unitShift - 1) >> unitShift
	return bits.Len(uint(max(units, 1) - 1))
}
