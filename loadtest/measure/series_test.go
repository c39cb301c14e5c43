package measure

import (
	"testing"
	"time"

	"wsecho/loadtest/stats"
)

// A last point less than half an interval after the one before is merged into it, unless it is the
// only one in the measured time.
func TestShortLastIntervalIsMerged(t *testing.T) {
	const interval = time.Second
	for _, x := range []struct {
		name  string
		since time.Duration // before the end
		from  time.Duration // the beginning of the measured time
		want  int           // points
	}{
		{"short", interval/2 - 1, 0, 2},
		{"long", interval / 2, 0, 3},
		{"short, and alone in the measured time", interval/2 - 1, 2 * interval, 3},
		{"short, and all in the warm-up", interval/2 - 1, time.Hour, 2},
	} {
		at := 2*interval + x.since
		s := series{from: int64(x.from)}
		for _, p := range []Point{{At: interval, Rate: 1}, {At: 2 * interval, Rate: 2}, {At: at, Rate: 9, Open: 7, Faults: 5}} {
			s.add(p)
		}
		s.end(int64(at), int64(2*interval), interval)
		s.add(Point{At: time.Minute}) // ignored: the series has ended
		points := s.result()
		if len(points) != x.want {
			t.Errorf("%s: got %+v, want %d points", x.name, points, x.want)
			continue
		}
		last := points[len(points)-1]
		if last.Open != 7 || last.Faults != 5 || (last.Rate == 9) != (x.want == 3) {
			t.Errorf("%s: the last point is %+v, want 7 open and 5 faults", x.name, last)
		}
		if points[0].At != interval-x.from {
			t.Errorf("%s: the first point is at %v, want %v", x.name, points[0].At, interval-x.from)
		}
	}
}

func TestPointOfAnInterval(t *testing.T) {
	counted := stats.NewCounts()
	before := sample{at: int64(time.Second), own: Usage{User: time.Second}}
	now := sample{at: int64(3 * time.Second), own: Usage{User: 2 * time.Second, System: time.Second}, server: Usage{System: time.Second}}
	if p := pointOf(before, now, counted, 4); p.Rate != 0 || p.P50 != 0 || p.Max != 0 || p.Faults != 4 {
		t.Errorf("without messages: got %+v, want zeros and 4 faults", p)
	}
	counted.Messages, counted.Open = 10, 3
	stats.Record(counted.Latency, int64(time.Millisecond), 10)
	p := pointOf(before, now, counted, 0)
	if p.Rate != 5 || p.Open != 3 || p.Own != 1 || p.Server != 0.5 || p.P50 < time.Millisecond || p.P99 > 1010*time.Microsecond {
		t.Errorf("got %+v, want 5 messages per second, 3 open, 1 and 0.5 CPUs, and latencies of 1 ms", p)
	}
}
