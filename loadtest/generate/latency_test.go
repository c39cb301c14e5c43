package generate

import (
	"testing"

	"wsecho/loadtest/stats"
)

// Messages that were due at the same time are recorded together, with the same latency.
func TestLatenciesAreRecordedByDueTime(t *testing.T) {
	counts := stats.NewCounts()
	l := latency{due: 1_000, times: 3}
	l.next(5_000, 11_000, counts)
	l.times++
	l.record(11_000, counts)
	l.record(99_000, counts) // everything has been recorded
	h := counts.Latency
	if h.TotalCount() != 4 || h.Max() < 10_000 || h.Max() > 10_100 || h.Min() > 6_000 || h.Min() < 5_900 {
		t.Errorf("got %d latencies from %d to %d ns, want 1 of 6000 ns and 3 of 10000 ns", h.TotalCount(), h.Min(), h.Max())
	}
}
