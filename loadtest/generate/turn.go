package generate

import (
	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// turn reads from a connection whose request has been answered, once, and sends. Ended is whether
// TCP is known to have ended. If there may be more to read, the connection continues after the
// others.
func (cs *conns) turn(c conn, ended bool) {
	n, err := netpoll.Recv(int(c.fd), cs.buffer)
	cs.look()
	if err != nil {
		cs.lost(c, err)
		return
	}
	if n == len(cs.buffer) || n > 0 && ended { // a known end needs a read of its own
		cs.goOn(c)
	}
	switch {
	case n == 0:
		cs.flush(c)
	case !c.gotClose: // nothing follows a close frame
		cs.read(c, cs.buffer[:n])
	}
}

// read takes what has arrived on a connection, and sends what that makes due.
func (cs *conns) read(c conn, p []byte) {
	exists := cs.take(c, p)
	cs.latency.record(cs.now, cs.counts)
	if exists {
		cs.flush(c)
	}
}

// take takes replies and control frames. It reports whether the connection still exists.
func (cs *conns) take(c conn, p []byte) bool {
	c.since = cs.now
	greeted := false
	for len(p) > 0 && c.phase != none { // none: an answer to a control frame could not be sent
		if c.done < c.written && c.parser.Between() {
			n, messages := cs.Payloads.Replied(p, c.base, c.done, c.written-c.done)
			for range messages {
				cs.verified(c)
			}
			if p = p[n:]; n > 0 {
				continue
			}
		}
		var awaited *wire.Message
		switch {
		case c.phase == greeting:
			awaited = wire.AnyMessage
		case c.done < c.written || c.done == c.written && c.offset > 0:
			awaited = cs.Payloads.Message(c.base, c.done)
		}
		n, step, err := c.parser.Take(p, awaited)
		if err != nil {
			cs.fail(c, c.hint(err.(*stats.Fault)))
			return false
		}
		p = p[n:]
		switch step {
		case wire.Verified:
			if c.phase == greeting {
				if c.greetings--; c.greetings == 0 {
					cs.setPhase(c, open)
					greeted = true
				}
				continue
			}
			cs.verified(c)
		case wire.Pinged:
			cs.say(c, ws.OpPong, c.parser.Control)
		case wire.GotClose:
			cs.closed(c)
			return false
		}
	}
	if greeted && c.phase == open {
		cs.begin(c)
	}
	return c.phase != none
}

// hint adds to a fault of a connection's first reply that it may be a greeting.
func (s *slot) hint(f *stats.Fault) *stats.Fault {
	if s.phase == open && s.done == 0 && (f.Kind == stats.Unasked || f.Kind == stats.Mismatched) {
		f.Detail += "; if the server sends a greeting first, use -greeting"
	}
	return f
}

// verified counts a message whose reply has come and is right, and decides what comes next. Rates
// are of the replies that come in the measured time, and latencies of the messages that were due in
// it.
func (cs *conns) verified(c conn) {
	if cs.now < cs.period.until {
		cs.counts.Messages++
		cs.counts.Bytes += uint64(cs.Payloads.Message(c.base, c.done).Size())
	}
	if due := cs.dueTime(c); due >= cs.latency.floor {
		if due != cs.latency.due {
			cs.latency.next(due, cs.now, cs.counts)
		}
		cs.latency.times++
	}
	c.done++
	c.tries = 0
	switch {
	case cs.Mode == Connect:
		cs.startClose(c, normalClosure)
	case cs.Mode == Idle:
	case cs.Paced():
		c.asked = min(c.due, c.done+uint64(cs.InFlight))
	case cs.now < cs.period.until:
		cs.ask(c, 1)
	}
	cs.closeIfDone(c)
}

// begin begins what a connection that has just been opened is for.
func (cs *conns) begin(c conn) {
	switch {
	case cs.Mode == Connect:
		start := *cs.sendTime.of(c, c.asked) // the latency is that of the whole connection
		cs.ask(c, 1)
		*cs.sendTime.of(c, c.done) = start
	case cs.Mode == Idle:
		cs.ask(c, 1)
	case cs.Paced(): // what was due before, if it is not the first opening
		c.asked = min(c.due, c.done+uint64(cs.InFlight))
	case cs.period.started:
		cs.ask(c, cs.InFlight)
	}
	cs.flush(c)
	cs.closeIfDone(c)
}

// ask has n more messages sent at the next flush.
func (cs *conns) ask(c conn, n int) {
	if !c.outstanding() {
		c.since = cs.now
	}
	for range n {
		*cs.sendTime.of(c, c.asked) = cs.now
		c.asked++
	}
}

// dueTime returns when the oldest outstanding message should have been sent, or in mode Connect its
// connection opened. In a closed loop that is when it was sent.
func (cs *conns) dueTime(c conn) int64 {
	switch {
	case cs.Paced() && cs.Mode == Connect:
		return cs.pacedTime(c.index, uint64(c.rounds)-1)
	case cs.Paced() && cs.Mode == Echo:
		return cs.pacedTime(c.index, c.done)
	}
	return *cs.sendTime.of(c, c.done)
}

// pacedTime returns when a connection's message of a round is due.
func (cs *conns) pacedTime(index int, round uint64) int64 {
	return cs.period.rateFrom + int64(cs.Rate.at(cs.share.number(index, round)))
}
