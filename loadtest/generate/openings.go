package generate

import (
	"slices"
	"time"
)

// openings are the connections of a worker that are to be opened.
type openings struct {
	ready      []int // indexes of those to be opened as soon as possible
	later      []retrial
	handshakes int // outstanding

	unsettled int           // connections that have neither been opened nor failed to, yet
	settled   chan struct{} // closed when there are none
}

// A retrial is an opening that waits.
type retrial struct {
	index int
	at    int64
}

// Pauses between openings of a connection double from firstPause to longestPause.
const (
	firstPause   = sweepTime
	longestPause = time.Second
	mostTries    = 16 // by then pauses have long been the longest
)

// add has a connection opened as soon as possible.
func (o *openings) add(c conn) { o.ready = append(o.ready, c.index) }

// addLater has a connection opened at the given time or up to sweepTime later.
func (o *openings) addLater(c conn, at int64) { o.later = append(o.later, retrial{c.index, at}) }

// addAfterFailure has a connection opened again: at once after a message was verified on it, and
// then with pauses. They spare a server that is down, or that closes every connection.
func (o *openings) addAfterFailure(c conn, now int64) {
	if c.tries == 0 {
		c.tries = 1
		o.add(c)
		return
	}
	pause := min(firstPause<<(c.tries-1), longestPause)
	c.tries = min(c.tries+1, mostTries)
	o.addLater(c, now+int64(pause))
}

// endPauses adds the connections whose pause is over.
func (o *openings) endPauses(now int64) {
	o.later = slices.DeleteFunc(o.later, func(r retrial) bool {
		if r.at <= now {
			o.ready = append(o.ready, r.index)
		}
		return r.at <= now
	})
}

// hurry ends all pauses with the next sweep.
func (o *openings) hurry(now int64) {
	for i := range o.later {
		o.later[i].at = now
	}
}

// pending returns the number of connections that are to be opened.
func (o *openings) pending() int { return len(o.ready) + len(o.later) }

// settle records that a connection has been opened or has failed to, if it is the first time.
func (o *openings) settle(c conn) {
	if c.rounds > 1 {
		return
	}
	if o.unsettled--; o.unsettled == 0 {
		close(o.settled)
	}
}
