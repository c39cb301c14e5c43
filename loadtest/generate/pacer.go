package generate

import (
	"time"

	"wsecho/loadtest/stats"
)

// paceBatch limits the messages that are handed out before replies are read. At a rate that cannot
// be kept, another message is always due.
const paceBatch = 256

// A pacer sends messages at a fixed rate, or in mode Connect opens connections at one.
//
// Messages are numbered, and connections take turns: message n is due n/rate after the beginning,
// on connection n modulo the connection count, whether or not replies have arrived. A connection
// that has InFlight messages outstanding sends later, but its latencies still count from the time
// at which the messages were due. A server that stalls therefore receives all messages that were
// due meanwhile.
type pacer struct {
	cs    *conns
	alarm *alarm

	round     uint64
	index     int  // of the next connection
	handedOut bool // all messages of the run have been handed out
}

// active reports whether messages are left to hand out.
func (p *pacer) active() bool {
	return p.cs.Paced() && p.cs.period.rateFrom >= 0 && !p.handedOut
}

// nextDue returns when the next message is due.
func (p *pacer) nextDue() int64 { return p.cs.pacedTime(p.index, p.round) }

// behind reports whether a message is due that has not been handed out.
func (p *pacer) behind() bool {
	return p.active() && p.nextDue() <= p.cs.now && p.nextDue() < p.cs.period.until
}

// sendDue sends the messages that are due, and sets the alarm to the time of the next. Messages
// that are due on the same connection are sent together.
func (p *pacer) sendDue() {
	if !p.active() {
		return
	}
	cs, first := p.cs, p.index
	n := p.handOut()
	if cs.Mode == Connect {
		return
	}
	for i := range min(n, len(cs.slots)) {
		if c := cs.at((first + i) % len(cs.slots)); c.phase == open {
			cs.flush(c)
		}
	}
}

// handOut assigns the messages that are due to their connections, and returns their number.
func (p *pacer) handOut() (n int) {
	cs := p.cs
	for ; n < paceBatch; n++ {
		at := p.nextDue()
		if at >= cs.period.until {
			break
		}
		if at > cs.now {
			p.alarm.wakeAt(at, cs.now)
			break
		}
		p.moreDue(cs.at(p.index), 1)
		if p.index++; p.index == len(cs.slots) {
			p.index = 0
			p.round++
		}
	}
	return n
}

// moreDue records that n more messages, or in mode Connect rounds, of a connection are due.
func (p *pacer) moreDue(c conn, n uint64) {
	cs := p.cs
	c.due += n
	switch {
	case cs.Mode == Connect:
		if c.phase == none && uint64(c.rounds)+1 == c.due { // otherwise an opening is pending
			cs.openings.add(c)
		}
	case c.phase == open:
		if !c.outstanding() {
			c.since = cs.now
		}
		c.scheduled = min(c.due, c.done+uint64(cs.InFlight))
	case !cs.Reopen: // with -reopen they are sent when it is open again
		p.unsent(c, n)
	}
}

// finish hands out the remaining messages that are due before the end of sending.
func (p *pacer) finish() {
	if !p.active() {
		return
	}
	cs := p.cs
	total := cs.Rate.before(time.Duration(cs.period.until - cs.period.rateFrom))
	for index := range cs.slots {
		c := cs.at(index)
		if due := cs.share.rounds(index, total); due > c.due {
			p.moreDue(c, due-c.due)
		}
		if cs.Mode == Echo && c.phase == open {
			cs.flush(c)
		}
	}
	p.handedOut = true
}

// unsent counts n messages that were due and can no longer be sent.
func (p *pacer) unsent(c conn, n uint64) {
	if n > 0 {
		p.cs.counts.AddFault(stats.Faultf(stats.Unsent, "connection %d was not open", p.cs.share.number(c.index, 0)), n)
	}
}
