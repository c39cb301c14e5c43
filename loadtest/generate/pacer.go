package generate

import (
	"time"

	"wsecho/loadtest/stats"
)

// paceBatch is the number of messages that are handed out before replies are read again: at a rate
// that cannot be kept, another message is always due.
const paceBatch = 256

// A pacer sends messages at a fixed rate, or in mode Connect has connections opened at one.
//
// Messages are numbered, and connections take turns: message n is due at the time that the rate
// says, on connection n modulo the connection count, whether or not replies have come. A connection
// that has InFlight messages outstanding sends later, but its messages stay due when they were, and
// their latencies count from there. A server that stalls is therefore not spared the messages that
// would have been sent meanwhile.
type pacer struct {
	cs    *conns
	alarm *alarm

	round     uint64
	index     int  // of the connection whose turn it is
	handedOut bool // no more messages will be due
}

// active reports whether more messages will be due.
func (p *pacer) active() bool {
	return p.cs.Paced() && p.cs.period.rateFrom >= 0 && !p.handedOut
}

// nextDue returns when the next message is due.
func (p *pacer) nextDue() int64 { return p.cs.pacedTime(p.index, p.round) }

// behind reports whether a message is due that sendDue has not handed out.
func (p *pacer) behind() bool {
	return p.active() && p.nextDue() <= p.cs.now && p.nextDue() < p.cs.period.until
}

// sendDue sends what is due by now, and sets the alarm to the time of the next message. Several
// messages that are due on one connection are sent together.
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

// handOut gives connections the messages that are due by now, and returns their number.
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

// moreDue records that n more messages, or rounds, of a connection are due.
func (p *pacer) moreDue(c conn, n uint64) {
	cs := p.cs
	c.due += n
	switch {
	case cs.Mode == Connect:
		if c.phase == none && uint64(c.rounds)+1 == c.due { // otherwise it is about to be opened
			cs.openings.add(c)
		}
	case c.phase == open:
		if !c.outstanding() {
			c.since = cs.now
		}
		c.asked = min(c.due, c.done+uint64(cs.InFlight))
	case !cs.Reopen: // otherwise they are sent when it is open again
		p.unsent(c, n)
	}
}

// finish hands out the messages that were due by the end of the sending.
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

// unsent counts messages that were due and cannot be sent any more.
func (p *pacer) unsent(c conn, n uint64) {
	if n > 0 {
		p.cs.counts.AddFault(stats.Faultf(stats.Unsent, "connection %d, which was not open", p.cs.share.number(c.index, 0)), n)
	}
}
