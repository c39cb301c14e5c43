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
