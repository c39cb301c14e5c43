package pool

import (
	"iter"
	"math/bits"
)

const (
	// sweepEvery is the time between two sweeps, in ticks, and so about the lateness of a timeout.
	sweepEvery = 4
	sweepTime  = sweepEvery * tickTime

	// sweepSlice is the least number of words, of 64 descriptors each, that a sweep examines; it
	// examines at least a sixteenth of the set. So up to 65,536 descriptors are examined every
	// time, and millions once a second.
	sweepSlice = 1024
)

// deadlines is the set of a worker's descriptors that have a deadline. It keeps no time per
// descriptor: it asks for it in a sweep. A worker with an empty set sleeps until something happens.
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

// expired returns the members, in the part of the set that the next sweep examines, whose deadline
// now has reached. The loop over them may remove the current one.
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

// all returns every member. The loop over them may remove the current one.
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
