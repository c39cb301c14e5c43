package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// A connection that has spoken and is silent again keeps nothing but its slot.
func TestMemoryOfIdleConnections(t *testing.T) {
	const n, limit = 15_000, 150
	if raceEnabled {
		t.Skip("the race detector's shadow is not the server's memory")
	}
	needDescriptors(t, n)
	s := start(t)
	cold := s.residentBytes()
	// What costs once, the code it takes to serve anybody and the workers' buffers, is not the connections' to pay.
	for _, w := range crowd(t, s, 100) {
		if err := closeCleanly(w); err != nil {
			t.Fatal(err)
		}
	}
	before := s.residentBytes()
	crowd(t, s, n)
	after := s.residentBytes()

	each := float64(after-before) / n
	t.Logf("%.0f bytes a connection: %d KiB resident at start, %d once warm, %d with %d connections idle",
		each, cold>>10, before>>10, after>>10, n)
	if each > limit {
		t.Errorf("%.0f bytes a connection, want no more than %d", each, limit)
	}
}

// Whatever peers send and do not finish, or do not read, the server's memory stays within
// the README's formula: what it has at the start, 4 MiB in which Go's heap may grow before it is
// collected, two buffers a worker, a slot a connection, and the budget with a 64th on top.
func TestMemoryBound(t *testing.T) {
	const n, budget, workers = 3_000, 4 << 20, 2
	if raceEnabled {
		t.Skip("the race detector's shadow is not the server's memory")
	}
	needDescriptors(t, n)
	s := start(t, "-buffer-budget", "4MiB", "-workers", strconv.Itoa(workers))
	cold := s.residentBytes()
	bound := cold + 4<<20 + 2*256<<10*workers + 64*n + budget + budget/64

	// Beyond what fits: 48 KiB of each frame are here, and 52 will never be.
	half := encode(text(strings.Repeat("x", 100<<10)))[:48<<10]
	crowdOf := crowd(t, s, n)
	err := forEach(n, func(i int) error {
		_, err := crowdOf[i].Write(half)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	witness := s.upgrade(t)
	witness.send(text("is there anything left for me?"))
	witness.want(text("is there anything left for me?"))

	after := s.residentBytes()
	t.Logf("%d KiB resident at start, %d with %d half frames of 100 KiB, at most %d allowed", cold>>10, after>>10, n, bound>>10)
	if after > bound {
		t.Errorf("%d KiB resident, want at most %d", after>>10, bound>>10)
	}
	// A block has room for as much again as it holds, and half of its pages are untouched.
	if after < cold+budget/4 {
		t.Errorf("%d KiB resident: the budget has not been used, so this shows nothing", after>>10)
	}
}
