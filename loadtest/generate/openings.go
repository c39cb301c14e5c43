package generate

import (
	"slices"
	"time"
)

// openings holds the connections of a worker that are to be opened.
type openings struct {
	ready      []int // to be opened as soon as possible
	later      []retry
	handshakes int // outstanding

	unsettled int           // connections whose first opening has neither succeeded nor failed
	settled   chan struct{} // closed when unsettled reaches 0
}

// A retry is an opening after a pause.
type retry struct {
	index int
	at    int64
}

// Pauses between openings of a connection double from firstPause to longestPause.
const (
	firstPause   = sweepTime
	longestPause = time.Second
	mostTries    = 16 // the pause reaches longestPause before
)

// add schedules an opening as soon as possible.
func (o *openings) add(c conn) { o.ready = append(o.ready, c.index) }

// addLater schedules an opening at the given time, or up to sweepTime later.
func (o *openings) addLater(c conn, at int64) { o.later = append(o.later, retry{c.index, at}) }

// addAfterFailure schedules another opening: at once if a message was verified since the last
// opening, and otherwise after a pause. Pauses limit the load on a server that is down or closes
// every connection.
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

// endPauses moves the connections whose pause is over to ready.
func (o *openings) endPauses(now int64) {
	o.later = slices.DeleteFunc(o.later, func(r retry) bool {
		if r.at <= now {
			o.ready = append(o.ready, r.index)
		}
		return r.at <= now
	})
}

// skipPauses ends all pauses at the next sweep.
func (o *openings) skipPauses(now int64) {
	for i := range o.later {
		o.later[i].at = now
	}
}

// pending returns the number of connections to be opened.
func (o *openings) pending() int { return len(o.ready) + len(o.later) }

// settle records that a connection's first opening has succeeded or failed.
func (o *openings) settle(c conn) {
	if c.rounds > 1 {
		return
	}
	if o.unsettled--; o.unsettled == 0 {
		close(o.settled)
	}
}
