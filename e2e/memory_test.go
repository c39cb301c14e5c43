package e2e

import (
	"strconv"
	"strings"
	"testing"

	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

// An idle connection uses no memory but its slot, even after it has echoed a message.
func TestMemoryOfIdleConnections(t *testing.T) {
	const n, limit = 15_000, 150
	if raceEnabled {
		t.Skip("memory is not comparable under the race detector")
	}
	needDescriptors(t, n)
	s := start(t)
	cold := s.residentBytes()
	// A few connections first, so that the workers' buffers and the pages of code are not counted
	// as memory of connections.
	for _, w := range openMany(t, s, 100) {
		if err := closeCleanly(w); err != nil {
			t.Fatal(err)
		}
	}
	before := s.residentBytes()
	openMany(t, s, n)
	after := s.residentBytes()

	each := float64(after-before) / n
	t.Logf("%.0f bytes per connection: %d KiB resident at start, %d after the first connections, %d with %d idle connections",
		each, cold>>10, before>>10, after>>10, n)
	if each > limit {
		t.Errorf("got %.0f bytes per connection, want at most %d", each, limit)
	}
}

// Whatever peers send without finishing it, or do not read, the server's memory stays within the
// README's formula, which package limits computes.
func TestMemoryBound(t *testing.T) {
	const n, budget, workers = 3_000, 4 << 20, 2
	if raceEnabled {
		t.Skip("memory is not comparable under the race detector")
	}
	needDescriptors(t, n)
	s := start(t, "-buffer-budget", "4MiB", "-workers", strconv.Itoa(workers))
	cold := s.residentBytes()
	needs := limits.Server{Workers: workers, BufferSize: pool.BufferSize, BufferBudget: budget}
	bound := cold + int(needs.Growth()) + n*limits.SlotMemory

	// The budget cannot hold them all: 48 KiB of each frame arrive, and the other 52 never do.
	half := encode(text(strings.Repeat("x", 100<<10)))[:48<<10]
	wires := openMany(t, s, n)
	err := forEach(n, func(i int) error {
		_, err := wires[i].Write(half)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	other := s.upgrade(t)
	other.send(text("echo while the budget is exhausted"))
	other.want(text("echo while the budget is exhausted"))

	after := s.residentBytes()
	t.Logf("%d KiB resident at start, %d with %d half frames of 100 KiB, at most %d allowed", cold>>10, after>>10, n, bound>>10)
	if after > bound {
		t.Errorf("got %d KiB resident, want at most %d", after>>10, bound>>10)
	}
	// A block may be up to twice as large as its content, and its other pages are never touched.
	if after < cold+budget/4 {
		t.Errorf("got %d KiB resident, want more: the test has not used the budget", after>>10)
	}
}
