package measure

import (
	"time"

	"wsecho/loadtest/stats"
)

// A Point is what an interval of the run was like.
type Point struct {
	At       time.Duration // the end of the interval, since the beginning of the measured time
	Rate     float64       // replies per second
	P50, P99 time.Duration
	Max      time.Duration
	Open     int     // connections
	Faults   uint64  // since the beginning of the run
	Server   float64 // CPUs in use
	Own      float64 // CPUs in use by the generator
}

// pointOf returns the point for what was counted between two moments. Faults are not counted by the
// interval, so they are passed.
func pointOf(before, now moment, counted *stats.Counts, faults uint64) Point {
	lasted := max(float64(now.at-before.at), 1) / 1e9
	p := Point{
		At:     time.Duration(now.at),
		Rate:   float64(counted.Messages) / lasted,
		Open:   counted.Open,
		Faults: faults,
		Server: now.server.minus(before.server).CPU().Seconds() / lasted,
		Own:    now.own.minus(before.own).CPU().Seconds() / lasted,
	}
	if counted.Latency.TotalCount() > 0 { // an empty histogram has a highest value nevertheless
		p.P50 = time.Duration(counted.Latency.ValueAtPercentile(50))
		p.P99 = time.Duration(counted.Latency.ValueAtPercentile(99))
		p.Max = time.Duration(counted.Latency.Max())
	}
	return p
}

// A series is the points of a run, in the order of time.
type series struct {
	points []Point
	from   int64 // when the measured time begins, once that is known
	ended  bool  // the measured time is over: points are shown, but not part of the series
}

// add adds a point, unless the series has ended.
func (s *series) add(p Point) {
	if !s.ended {
		s.points = append(s.points, p)
	}
}

// end ends the series with the point that was added last, at a time of the plan's clock. If that
// came less than half an interval after the one before, it is too short for a rate of its own: then
// only its connections and faults are kept.
func (s *series) end(at, since int64, interval time.Duration) {
	s.ended = true
	n := len(s.points) - 1
	if n < 1 || at-since >= int64(interval)/2 {
		return
	}
	last, before := s.points[n], &s.points[n-1]
	if (int64(before.At) > s.from) == (at > s.from) {
		before.Open, before.Faults = last.Open, last.Faults
		s.points = s.points[:n]
	}
}

// result returns the points with times since the beginning of the measured time.
func (s *series) result() []Point {
	for i := range s.points {
		s.points[i].At -= time.Duration(s.from)
	}
	return s.points
}
