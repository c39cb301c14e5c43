package generate

import "time"

// A Pace determines when each event of a sequence is due, as a pure function of the event's number.
// It has no state, so delays do not accumulate, and the time at which a message should have been
// sent can be computed when its reply arrives.
type Pace struct {
	PerSecond float64 // 0: everything is due at once
}

// at returns when event n is due, as the time since the beginning. Events are numbered from 0.
func (p Pace) at(n uint64) time.Duration {
	if p.PerSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / p.PerSecond * float64(time.Second))
}

// before returns the number of events that are due earlier than d after the beginning.
func (p Pace) before(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	n := uint64(d.Seconds() * p.PerSecond)
	for p.at(n) < d {
		n++
	}
	for n > 0 && p.at(n-1) >= d {
		n--
	}
	return n
}

// A share is a worker's part of a numbered sequence in which all connections take turns. Each round
// has `of` numbers, one per connection. The worker's connections have first, first+step,
// first+2*step, ….
type share struct {
	first, step, of uint64
}

// number returns the number in the whole sequence of a connection's event of a round.
func (s share) number(conn int, round uint64) uint64 {
	return round*s.of + s.first + uint64(conn)*s.step
}

// rounds returns the number of rounds in which the number of a connection's event is below total.
func (s share) rounds(conn int, total uint64) uint64 {
	first := s.number(conn, 0)
	if total <= first {
		return 0
	}
	return (total - first + s.of - 1) / s.of
}
