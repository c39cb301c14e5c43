package generate

import (
	"math"
	"testing"
	"time"
)

func TestPaceIsAFunctionOfTheCount(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		n         uint64
		want      time.Duration
	}{
		{1, 0, 0},
		{1, 1, time.Second},
		{1000, 1, time.Millisecond},
		{1000, 1500, 1500 * time.Millisecond},
		{0.5, 3, 6 * time.Second},
		{1e6, 3, 3 * time.Microsecond},
		{3, 3, time.Second},                         // 3 times a rounded third would be less
		{200_000, 200_000 * 86_400, 24 * time.Hour}, // rounding errors do not accumulate in a day
		{0, 1 << 60, 0},
	} {
		if got := (Pace{c.perSecond}).at(c.n); got != c.want {
			t.Errorf("at %v per second, event %d is due after %v, want %v", c.perSecond, c.n, got, c.want)
		}
	}
}

// before counts exactly the events whose time is before d, by at.
func TestBeforeAgreesWithAt(t *testing.T) {
	for _, perSecond := range []float64{0.3, 1, 3, 200, 7919, 1e6, 1e9} {
		p := Pace{perSecond}
		for _, d := range []time.Duration{-1, 0, 1, 2, 999, time.Millisecond, time.Second, time.Second + 1, 24 * time.Hour} {
			n := p.before(d)
			if n > 0 && p.at(n-1) >= d || d > 0 && p.at(n) < d {
				t.Errorf("at %v per second, before(%[3]v) is %[2]d, which contradicts at", perSecond, n, d)
			}
		}
	}
}

func TestPaceIsEven(t *testing.T) {
	p := Pace{7919}
	step := float64(time.Second) / 7919
	for n := uint64(1); n < 20_000; n++ {
		if gap := float64(p.at(n) - p.at(n-1)); math.Abs(gap-step) > 1 {
			t.Fatalf("got %[3]v ns between events %[1]d and %[2]d, want %[4]v", n-1, n, gap, step)
		}
	}
}

// Each message of the sequence belongs to one connection, and connections take turns, for any
// number of workers.
func TestSharesCoverTheSequence(t *testing.T) {
	for _, c := range []struct{ connections, workers int }{{1, 1}, {10, 1}, {10, 3}, {3, 3}, {1001, 4}} {
		const rounds = 5
		seen := make([]int, rounds*c.connections)
		for w := range c.workers {
			s := share{uint64(w), uint64(c.workers), uint64(c.connections)}
			for slot := range slotsOf(w, c.workers, c.connections) {
				for round := range uint64(rounds) {
					n := s.number(slot, round)
					seen[n]++
					if want := round*uint64(c.connections) + s.number(slot, 0); n != want {
						t.Fatalf("slot %d has number %d in round %d, want %d", slot, n, round, want)
					}
				}
			}
		}
		for total := range uint64(rounds * c.connections) {
			var sum uint64
			for w := range c.workers {
				s := share{uint64(w), uint64(c.workers), uint64(c.connections)}
				for slot := range slotsOf(w, c.workers, c.connections) {
					sum += s.rounds(slot, total)
				}
			}
			if sum != total {
				t.Errorf("%+v: %[3]d of the first %[2]d numbers belong to a slot, want all", c, total, sum)
			}
		}
		for n, times := range seen {
			if times != 1 {
				t.Fatalf("%+v: number %d belongs to %d slots, want 1", c, n, times)
			}
		}
	}
}
