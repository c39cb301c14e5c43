package stats

import (
	"strings"
	"testing"
	"time"
)

// StartMeasuring discards messages and latencies. Handshakes, faults and lost messages count from
// the beginning of the run.
func TestStartMeasuringKeepsRunCounts(t *testing.T) {
	c := NewCounts()
	c.Messages, c.Bytes = 5, 500
	Record(c.Latency, 1000, 5)
	Record(c.Handshake, 1000, 2)
	c.AddFault(Faultf(Cut, "first"), 1)
	c.AddFault(Faultf(Cut, "second"), 2)
	c.Ended(1001, 4)
	c.Ended(0, 1)
	c.StartMeasuring()
	if !c.Measured || c.Messages != 0 || c.Bytes != 0 || c.Latency.TotalCount() != 0 {
		t.Errorf("messages or latencies were kept: %+v", c)
	}
	if c.Handshake.TotalCount() != 2 || c.FaultCount() != 3 || c.Examples[Cut] != "first" || c.Lost != 5 || c.Closes[1001] != (Closes{1, 4}) || len(c.Closes) != 1 {
		t.Errorf("counts of the run were lost: %+v", c)
	}
}

func TestAddAndReset(t *testing.T) {
	counts := func(detail string) *Counts {
		c := NewCounts()
		c.Messages, c.Bytes, c.Open, c.Reopened = 2, 20, 3, 1
		Record(c.Latency, 1000, 2)
		Record(c.Handshake, 1000, 1)
		c.AddFault(Faultf(Violated, "%s", detail), 1)
		c.Ended(1000, 1)
		return c
	}
	all, lasting := NewCounts(), NewCounts()
	for _, detail := range []string{"first", "second"} {
		all.Add(counts(detail))
		lasting.AddRunCounts(counts(detail))
	}
	if all.Messages != 4 || all.Bytes != 40 || all.Open != 6 || all.Latency.TotalCount() != 4 {
		t.Errorf("Add: got %+v", all)
	}
	if lasting.Messages != 0 || lasting.Bytes != 0 || lasting.Latency.TotalCount() != 0 {
		t.Errorf("AddRunCounts added counts of the measured time: %+v", lasting)
	}
	for _, c := range []*Counts{all, lasting} {
		if c.Handshake.TotalCount() != 2 || c.Reopened != 2 || c.Lost != 2 || c.Closes[1000] != (Closes{2, 2}) || c.Faults[Violated] != 2 || c.Examples[Violated] != "first" {
			t.Errorf("counts of the run: got %+v", c)
		}
	}
	if all.Reset(); all.FaultCount() != 0 || all.Lost != 0 || len(all.Closes) != 0 || all.Latency.TotalCount() != 0 || all.Handshake.TotalCount() != 0 || all.Examples[Violated] != "" {
		t.Errorf("after Reset: got %+v, want empty counts", all)
	}
}

// A duration outside the histogram's range is recorded as the nearest one inside it.
func TestRecordLimitsDurationsToTheRange(t *testing.T) {
	for nanoseconds, want := range map[int64]int64{-5: 0, 0: 0, 1_000_000: 1_000_000, int64(time.Hour): int64(10 * time.Minute)} {
		c := NewCounts()
		Record(c.Latency, nanoseconds, 3)
		if got := c.Latency.Max(); c.Latency.TotalCount() != 3 || got < want-want/1000 || got > want+want/1000+64 {
			t.Errorf("%d ns: recorded %d times as %d ns, want 3 times as %d ns", nanoseconds, c.Latency.TotalCount(), got, want)
		}
	}
}

func TestEveryFailureIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for kind := range Failures {
		if kind.String() == "" || kind.Meaning() == "" || seen[kind.String()] || seen[kind.Meaning()] {
			t.Errorf("failure %d has no name or meaning of its own: %q: %q", kind, kind, kind.Meaning())
		}
		seen[kind.String()], seen[kind.Meaning()] = true, true
		if f := Faultf(kind, "byte %d", 7); !strings.HasSuffix(f.Error(), kind.String()+": byte 7") {
			t.Errorf("got error %q, want kind and detail", f)
		}
	}
}
