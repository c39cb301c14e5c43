package main

import "time"

// A pace says when each of a sequence of things is due: a pure function of how
// many came before. Nothing is remembered, so what was late does not make what follows late too,
// and the time at which a message should have been sent can be asked for when its
// reply is there.
type pace struct {
	perSecond float64 // 0: everything is due at once
}

// at is when number n is due, after the beginning. The first is number 0.
func (p pace) at(n uint64) time.Duration {
	if p.perSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / p.perSecond * float64(time.Second))
}

// before is how many are due before a time after the beginning.
func (p pace) before(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	n := uint64(d.Seconds() * p.perSecond)
	for p.at(n) < d {
		n++
	}
	for n > 0 && p.at(n-1) >= d {
		n--
	}
	return n
}

// share is a worker's part of a numbered sequence that several connections take
// turns in: of every round of `of` numbers it has those of its slots, which are
// first, first+step, first+2*step, …
type share struct {
	first, step, of uint64
}

// number is the place in the whole sequence of what a slot does in a round.
func (s share) number(slot int, round uint64) uint64 {
	return round*s.of + s.first + uint64(slot)*s.step
}

// rounds is in how many rounds the place of what a slot does is below total.
func (s share) rounds(slot int, total uint64) uint64 {
	first := s.number(slot, 0)
	if total <= first {
		return 0
	}
	return (total - first + s.of - 1) / s.of
}
