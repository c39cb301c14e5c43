package measure

import (
	"time"

	"wsecho/loadtest/stats"
)

// A Point holds the figures of an interval of the run.
type Point struct {
	At                       time.Duration // the end of the interval, since the beginning of the measured time
	Rate                     float64       // replies per second
	P50, P90, P99, P999, Max time.Duration
	Open                     int     // connections
	Faults                   uint64  // since the beginning of the run
	Server                   float64 // CPUs in use
	Own                      float64 // CPUs in use by the generator
}

// pointOf returns the point of the interval between two samples, from the counts of the interval
// and the number of faults of the run so far.
func pointOf(before, now sample, counted *stats.Counts, faults uint64) Point {
	lasted := max(float64(now.at-before.at), 1) / 1e9
	p := Point{
		At:     time.Duration(now.at),
		Rate:   float64(counted.Messages) / lasted,
		Open:   counted.Open,
		Faults: faults,
		Server: now.server.minus(before.server).CPU().Seconds() / lasted,
		Own:    now.own.minus(before.own).CPU().Seconds() / lasted,
	}
	if counted.Latency.TotalCount() > 0 { // an empty histogram returns a maximum, too
		p.P50 = time.Duration(counted.Latency.ValueAtPercentile(50))
		p.P90 = time.Duration(counted.Latency.ValueAtPercentile(90))
		p.P99 = time.Duration(counted.Latency.ValueAtPercentile(99))
		p.P999 = time.Duration(counted.Latency.ValueAtPercentile(99.9))
		p.Max = time.Duration(counted.Latency.Max())
	}
	return p
}

// A series holds the points of a run in the order of time.
type series struct {
	points []Point
	from   int64 // when the measured time begins; 0: not known yet
	ended  bool  // the measured time is over: add ignores later points
}

// add adds a point, unless the series has ended.
func (s *series) add(p Point) {
	if !s.ended {
		s.points = append(s.points, p)
	}
}

// end ends the series. The last point is at the time at, and the one before it at since. If they
// are less than half an interval apart, the last interval is too short for a meaningful rate: its
// connections and faults replace those of the point before it.
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

// result returns the points, with times relative to the beginning of the measured time.
func (s *series) result() []Point {
	for i := range s.points {
		s.points[i].At -= time.Duration(s.from)
	}
	return s.points
}
