package pool

import (
	"iter"
	"math/bits"
)

const (
	// sweepEvery is the time between two sweeps, in ticks. Timeouts are late by up to that much.
	sweepEvery = 4
	sweepTime  = sweepEvery * tickTime

	// sweepSlice is the minimum number of words, of 64 descriptors each, that a sweep examines. It
	// also examines at least a sixteenth of the set. So a set of up to 65,536 descriptors is
	// examined in every sweep, and a larger one about once per second.
	sweepSlice = 1024
)

// deadlines is the set of a worker's descriptors that have a deadline. It does not store the
// deadlines: a sweep computes them. A worker whose set is empty sleeps until an event arrives.
type deadlines struct {
	set  fdSet
	n    int // members
	high int // no member is higher
	at   int // the word at which the next sweep begins
}

func (d *deadlines) add(fd int) {
	d.set.add(fd)
	d.n++
	d.high = max(d.high, fd)
}

func (d *deadlines) remove(fd int) {
	d.set.remove(fd)
	d.n--
}

// expired sweeps the next part of the set. It returns the members whose deadline is not after now.
// The loop over them may remove the current one.
func (d *deadlines) expired(now tick, deadline func(fd int) tick) iter.Seq[int] {
	return func(yield func(int) bool) {
		if d.n == 0 {
			return
		}
		words := d.high>>6 + 1
		for range min(words, max(sweepSlice, words/16)) {
			if d.at >= words {
				d.at = 0
			}
			for word := d.set[d.at]; word != 0; word &= word - 1 {
				fd := d.at<<6 + bits.TrailingZeros64(word)
				if now.reached(deadline(fd)) && !yield(fd) {
					return
				}
			}
			d.at++
		}
	}
}

// fdSet is a set of descriptors.
type fdSet []uint64

func (s fdSet) add(fd int)      { s[fd>>6] |= 1 << (fd & 63) }
func (s fdSet) remove(fd int)   { s[fd>>6] &^= 1 << (fd & 63) }
func (s fdSet) has(fd int) bool { return s[fd>>6]&(1<<(fd&63)) != 0 }

// all returns all members. The loop over them may remove the current one.
func (s fdSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}
