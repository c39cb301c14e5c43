package arena

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"wsecho/internal/offheap"
)

const (
	testChunk  = 1 << 12
	testChunks = 5
	testAside  = 1 // of testChunks
)

// modelled holds an arena and a simple model of it: the allocated blocks, each filled with a
// different byte.
type modelled struct {
	*Arena
	t     testing.TB
	live  []modelBlock
	next  byte
	inUse int
}

type modelBlock struct {
	b    Block
	fill byte
}

func newModelled(t testing.TB) *modelled {
	t.Helper()
	a, err := New(testChunks, testAside, testChunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return &modelled{Arena: a, t: t}
}

// allocs allocates a block, if one is free, and fills it.
func (m *modelled) allocs(size int) Block {
	m.t.Helper()
	b := m.Alloc(size)
	if b == 0 {
		return 0
	}
	mem := m.Bytes(b)
	if len(mem) < size || len(mem) >= 2*size && len(mem) > 1<<unitShift {
		m.t.Fatalf("requested %d bytes, got %d", size, len(mem))
	}
	m.next++
	for i := range mem {
		mem[i] = m.next
	}
	m.live = append(m.live, modelBlock{b, m.next})
	m.inUse += len(mem)
	m.agrees()
	return b
}

// releases releases the i-th block.
func (m *modelled) releases(i int) {
	m.t.Helper()
	m.inUse -= len(m.Bytes(m.live[i].b))
	m.Release(m.live[i].b)
	m.live = append(m.live[:i], m.live[i+1:]...)
	m.agrees()
}

// agrees checks that all blocks have their content, so that none overlaps another, and that the
// number of used bytes is right.
func (m *modelled) agrees() {
	m.t.Helper()
	for _, l := range m.live {
		if mem := m.Bytes(l.b); bytes.Count(mem, []byte{l.fill}) != len(mem) {
			m.t.Fatalf("block %d of %d bytes overlaps another", l.b, len(mem))
		}
	}
	if m.used != m.inUse || m.used > len(m.mem) {
		m.t.Fatalf("got %d used bytes, want %d of %d", m.used, m.inUse, len(m.mem))
	}
}

// empties releases all blocks, and checks that the arena consists of free chunks again.
func (m *modelled) empties() {
	m.t.Helper()
	for len(m.live) > 0 {
		m.releases(len(m.live) / 2)
	}
	if free := m.freeChunks(); free != testChunks {
		m.t.Errorf("got %d free chunks, want %d", free, testChunks)
	}
	for _, z := range m.zones {
		for o, b := range z.lists {
			if b != 0 {
				m.t.Errorf("free block %d of order %d has not been merged with its buddy", b, o)
			}
		}
	}
	for range testChunks - testAside {
		if m.Alloc(testChunk) == 0 {
			m.t.Error("allocating a chunk: got 0, want a block")
		}
	}
}

func (m *modelled) freeChunks() int {
	return len(m.zones[forAll].chunks) + len(m.zones[forShort].chunks)
}

// does performs the operation op: below 64 Trim, below 128 Release, otherwise Alloc.
func (m *modelled) does(op byte, arg uint16) {
	switch {
	case op < 64:
		m.Trim()
		m.agrees()
	case op < 128:
		if len(m.live) > 0 {
			m.releases(int(arg) % len(m.live))
		}
	default:
		m.allocs(int(arg)%testChunk + 1)
	}
}

func TestArenaAgainstAModel(t *testing.T) {
	for seed := range uint64(20) {
		m := newModelled(t)
		r := rand.New(rand.NewPCG(seed, 0))
		for range 1000 {
			// The shift makes small blocks as frequent as large ones.
			m.does(byte(r.Uint32()), uint16(r.Uint32()>>(16+r.UintN(12))))
		}
		m.empties()
	}
}

// No sequence of operations makes blocks overlap, or loses memory.
func FuzzArena(f *testing.F) {
	f.Add([]byte{200, 0, 0, 200, 255, 255, 100, 0, 0, 0, 0, 0})               // smallest, largest, release, trim
	f.Add([]byte{200, 15, 255, 200, 15, 255, 200, 15, 255, 200, 15, 255})     // all chunks
	f.Add([]byte{200, 7, 255, 200, 3, 255, 200, 0, 63, 100, 0, 0, 100, 0, 0}) // halves and their halves
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newModelled(t)
		for ; len(ops) >= 3; ops = ops[3:] {
			m.does(ops[0], uint16(ops[1])<<8|uint16(ops[2]))
		}
		m.empties()
	})
}

func TestArenaAllocatesExactlyItsSize(t *testing.T) {
	m := newModelled(t)
	if b := m.Alloc(testChunk + 1); b != 0 {
		t.Error("allocating more than a chunk: got a block, want 0")
	}
	for range testChunks - testAside {
		if m.allocs(testChunk) == 0 {
			t.Fatal("allocating a chunk: got 0, want a block")
		}
	}
	for range testAside * testChunk >> unitShift {
		if m.allocs(1) == 0 {
			t.Fatal("allocating a short block: got 0, want a block")
		}
	}
	if m.Alloc(1) != 0 || m.used != len(m.mem) {
		t.Errorf("got %d used bytes or another block, want %d and no block", m.used, len(m.mem))
	}
	m.releases(2)
	for n := 0; m.allocs(1) != 0; n++ {
		if n > testChunk>>unitShift {
			t.Fatal("got more blocks than fit into the memory")
		}
	}
	m.empties()
}

// The chunks set aside serve only short blocks, and only when no other memory is free.
func TestShortBlocksUseTheChunksSetAside(t *testing.T) {
	m := newModelled(t)
	for m.allocs(testChunk/4) != 0 {
	}
	if free := testChunks*testChunk - m.used; free != testAside*testChunk {
		t.Errorf("%d bytes for long blocks are free, want none", free-testAside*testChunk)
	}
	const short = 1 << (shortOrder + unitShift)
	if m.allocs(short) == 0 {
		t.Error("allocating a short block: got 0, want one from the chunk set aside")
	}
	if m.allocs(short+1) != 0 {
		t.Error("allocating a longer block: got one from the chunk set aside, want 0")
	}
	m.empties()
}

func TestAllocUsesTheSmallestFreeBlockThatFits(t *testing.T) {
	m := newModelled(t)
	m.allocs(testChunk / 2)
	m.allocs(testChunk / 4)
	if free := m.freeChunks(); free != testChunks-1 {
		t.Errorf("got %d free chunks, want %d", free, testChunks-1)
	}
	m.empties()
}

func TestReleasingABlockTwicePanics(t *testing.T) {
	for name, size := range map[string]int{"chunk": testChunk, "half": testChunk / 2, "unit": 1} {
		m := newModelled(t)
		other := m.Alloc(size) // the buddy of b: while it is in use, b is not merged
		b := m.Alloc(size)
		m.Release(b)
		wantsPanic(t, name+", with its buddy in use", func() { m.Release(b) })
		m.Release(other)
		wantsPanic(t, name+", with its buddy free", func() { m.Release(b) })
	}
}

func wantsPanic(t *testing.T, why string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: got no panic, want one", why)
		}
	}()
	f()
}

// Trim returns the pages of chunks that have been free for a while, but not those in use.
func TestTrimReturnsIdlePages(t *testing.T) {
	const chunks, chunk = 12, 1 << 16
	a, err := New(chunks, 0, chunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	var blocks []Block
	for range chunks {
		b := a.Alloc(chunk)
		for i := range a.Bytes(b) {
			a.Bytes(b)[i] = 1
		}
		blocks = append(blocks, b)
	}
	small := a.Alloc(1)
	if small != 0 {
		t.Fatal("allocating from a full arena: got a block, want 0")
	}
	for _, b := range blocks[1:] {
		a.Release(b)
	}
	wantsResident(t, a, "before Trim", chunks)
	if !a.Trim() {
		t.Error("first Trim: got false, want true, because pages can be returned later")
	}
	wantsResident(t, a, "the first Trim keeps all chunks", chunks)
	if !a.Trim() {
		t.Error("second Trim: got false, want true, because more pages can be returned")
	}
	wantsResident(t, a, "a Trim returns at most eight chunks", chunks-8)
	if a.Trim() {
		t.Error("third Trim: got true, want false, because all pages are returned")
	}
	wantsResident(t, a, "the chunk in use is kept", 1)
	if mem := a.Bytes(blocks[0]); bytes.Count(mem, []byte{1}) != len(mem) {
		t.Error("the block in use has lost its content")
	}
	if b := a.Alloc(chunk); b == 0 {
		t.Error("allocating a returned chunk: got 0, want a block")
	} else if mem := a.Bytes(b); bytes.Count(mem, []byte{0}) != len(mem) {
		t.Error("the returned chunk has content, want zeros")
	}
}

// The system discards whole pages only, and another chunk may be in the same page.
func TestTrimKeepsChunksInThePageOfAFreeOne(t *testing.T) {
	chunk := unix.Getpagesize() / 4
	a, err := New(4, 0, chunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	free := a.Alloc(chunk)
	var used []Block
	for range 3 {
		b := a.Alloc(chunk)
		for i := range a.Bytes(b) {
			a.Bytes(b)[i] = 1
		}
		used = append(used, b)
	}
	a.Release(free)
	for range 3 {
		if a.Trim() {
			t.Error("Trim: got true, want false, because no page is free")
		}
	}
	for _, b := range used {
		if mem := a.Bytes(b); bytes.Count(mem, []byte{1}) != len(mem) {
			t.Error("a block in use has lost its content")
		}
	}
}

func TestChunkThatIsUsedAgainIsNotTrimmed(t *testing.T) {
	m := newModelled(t)
	m.allocs(testChunk)
	m.releases(0)
	m.Trim()
	m.allocs(testChunk) // the chunk that was freed last
	m.Trim()
	m.Trim()
	m.agrees()
	m.empties()
}

// wantsResident checks the number of chunks that have pages in memory (mincore(2)).
func wantsResident(t *testing.T, a *Arena, why string, want int) {
	t.Helper()
	if !offheap.Mapped {
		return
	}
	pages := make([]byte, len(a.mem)/unix.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&a.mem[0])), uintptr(len(a.mem)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal("mincore:", errno)
	}
	got := 0
	for c := range len(a.idle) {
		each := len(pages) / len(a.idle)
		if bytes.IndexByte(pages[c*each:][:each], 1) >= 0 {
			got++
		}
	}
	if got != want {
		t.Errorf("%s: got %d resident chunks, want %d", why, got, want)
	}
}

func TestNewRejectsTooManyBlocks(t *testing.T) {
	if a, err := New(1<<26, 0, 1<<20); err == nil {
		a.Close()
		t.Error("an arena with more units than Block can number: got no error, want one")
	}
}

func TestArenaIsSafeForConcurrentUse(t *testing.T) {
	m := newModelled(t)
	var workers sync.WaitGroup
	for i := range byte(4) {
		workers.Go(func() {
			for n := range 2000 {
				b := m.Alloc(n%1000 + 1)
				if b == 0 {
					continue
				}
				mem := m.Bytes(b)
				for j := range mem {
					mem[j] = i
				}
				if bytes.Count(mem, []byte{i}) != len(mem) {
					t.Error("two goroutines got the same block")
				}
				m.Release(b)
				if n%100 == 0 {
					m.Trim()
				}
			}
		})
	}
	workers.Wait()
	m.empties()
}

func BenchmarkArena(b *testing.B) {
	a, err := New(64, 0, 256<<10)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.Close)
	for _, c := range []struct {
		name string
		size int
	}{{"64B", 64}, {"4KiB", 4 << 10}, {"256KiB", 256 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.Release(a.Alloc(c.size))
			}
		})
	}
}
