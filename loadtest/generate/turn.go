package generate

import (
	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// turn reads once from a connection that has been opened, and sends what the replies make due.
// Ended reports that TCP is known to have ended. If there may be more to read, the connection is
// requeued.
func (cs *conns) turn(c conn, ended bool) {
	n, err := netpoll.Recv(int(c.fd), cs.buffer)
	cs.readClock()
	if err != nil {
		cs.lost(c, err)
		return
	}
	if n == len(cs.buffer) || n > 0 && ended { // the end is read separately
		cs.requeue(c)
	}
	switch {
	case n == 0:
		cs.flush(c)
	case !c.gotClose: // bytes after a close frame are ignored
		cs.read(c, cs.buffer[:n])
	}
}

// read handles the bytes that have arrived, and sends the messages that they make due.
func (cs *conns) read(c conn, p []byte) {
	exists := cs.take(c, p)
	cs.latency.record(cs.now, cs.counts)
	if exists {
		cs.flush(c)
	}
}

// take verifies replies and handles control frames. It reports whether the connection is still
// usable.
func (cs *conns) take(c conn, p []byte) bool {
	c.since = cs.now
	greeted := false
	for len(p) > 0 && c.phase != none { // none: a pong could not be sent
		if c.done < c.written && c.parser.Between() {
			n, messages := cs.Payloads.Replied(p, c.base, c.done, c.written-c.done)
			for range messages {
				cs.verified(c)
			}
			if p = p[n:]; n > 0 {
				continue
			}
		}
		var expected *wire.Message
		switch {
		case c.phase == greeting:
			expected = wire.AnyMessage
		case c.done < c.written || c.done == c.written && c.offset > 0:
			expected = cs.Payloads.Message(c.base, c.done)
		}
		n, step, err := c.parser.Take(p, expected)
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
			cs.sendControl(c, ws.OpPong, c.parser.Control)
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

// hint adds to a fault of a connection's first reply that the reply may be a greeting.
func (s *slot) hint(f *stats.Fault) *stats.Fault {
	if s.phase == open && s.done == 0 && (f.Kind == stats.Unasked || f.Kind == stats.Mismatched) {
		f.Detail += "; if the server sends a greeting first, use -greeting"
	}
	return f
}

// verified counts a message whose reply is correct, and schedules the next. Rates are of replies
// that arrive in the measured time, and latencies are of messages that were due in it.
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
		c.scheduled = min(c.due, c.done+uint64(cs.InFlight))
	case cs.now < cs.period.until:
		cs.schedule(c, 1)
	}
	cs.closeIfDone(c)
}

// begin sends the first messages of a connection that has just been opened.
func (cs *conns) begin(c conn) {
	switch {
	case cs.Mode == Connect:
		start := *cs.sendTime.of(c, c.scheduled) // the latency is that of the whole connection
		cs.schedule(c, 1)
		*cs.sendTime.of(c, c.done) = start
	case cs.Mode == Idle:
		cs.schedule(c, 1)
	case cs.Paced(): // messages that became due while it was closed
		c.scheduled = min(c.due, c.done+uint64(cs.InFlight))
	case cs.period.started:
		cs.schedule(c, cs.InFlight)
	}
	cs.flush(c)
	cs.closeIfDone(c)
}

// schedule makes the next flush send n more messages.
func (cs *conns) schedule(c conn, n int) {
	if !c.outstanding() {
		c.since = cs.now
	}
	for range n {
		*cs.sendTime.of(c, c.scheduled) = cs.now
		c.scheduled++
	}
}

// dueTime returns when the oldest outstanding message should have been sent, or in mode Connect
// when its connection should have been opened. In a closed loop that is when it was sent.
func (cs *conns) dueTime(c conn) int64 {
	switch {
	case cs.Paced() && cs.Mode == Connect:
		return cs.pacedTime(c.index, uint64(c.rounds)-1)
	case cs.Paced() && cs.Mode == Echo:
		return cs.pacedTime(c.index, c.done)
	}
	return *cs.sendTime.of(c, c.done)
}

// pacedTime returns when a connection's message of a round is due at the fixed rate.
func (cs *conns) pacedTime(index int, round uint64) int64 {
	return cs.period.rateFrom + int64(cs.Rate.at(cs.share.number(index, round)))
}
