package measure

import (
	"time"

	"wsecho/loadtest/stats"
)

// A Phase is a part of a run.
type Phase uint8

// The phases, in their order.
const (
	Opening   Phase = iota // connections are opened
	WarmingUp              // messages are sent, and not measured
	Measuring
	Closing // connections are closed
)

var phaseNames = [...]string{Opening: "opening", WarmingUp: "warming up", Measuring: "measuring", Closing: "closing"}

func (p Phase) String() string { return phaseNames[p] }

// A Status describes the progress of a run.
type Status struct {
	Phase           Phase
	Elapsed, Length time.Duration // of the phase; a Length of 0 is unknown

	Point    Point         // the interval that has just ended; zero before the first one
	Rate     float64       // messages per second since the beginning of the measured time
	P50, P99 time.Duration // of all messages since the beginning of the measured time
	Faults   [stats.Failures]uint64
}

// enter begins a phase and reports it.
func (r *Run) enter(p Phase, length time.Duration) {
	r.status.Phase, r.status.Length = p, length
	r.entered = r.now()
	r.report()
}

// report passes the status of the run to progress.
func (r *Run) report() {
	s := &r.status
	s.Elapsed = time.Duration(r.now() - r.entered)
	if s.Length > 0 {
		s.Elapsed = min(s.Elapsed, s.Length)
	}
	s.Faults = r.total.Faults
	if r.total.Latency.TotalCount() > 0 {
		s.P50 = time.Duration(r.total.Latency.ValueAtPercentile(50))
		s.P99 = time.Duration(r.total.Latency.ValueAtPercentile(99))
	}
	if lasted := time.Duration(r.sampler.last.at - r.series.from); s.Phase == Measuring && lasted > 0 {
		s.Rate = float64(r.total.Messages) / lasted.Seconds()
	}
	r.progress(*s)
}
