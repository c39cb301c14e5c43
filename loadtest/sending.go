package main

import "time"

// At a fixed rate messages are numbered, and connections take turns: message n is due at the
// time that the rate says, on connection n modulo their number, whether or not
// replies have come. A connection that has as many in flight as it may sends
// later, but its messages stay due when they were, and their latencies count from
// there. So a server that stalls is not spared the messages that would have been sent meanwhile.

// start begins the sending, once all connections are open: before that, those that are would take the server's time
// from those that are not. At a rate, message 0 is due then.
func (w *worker) start(at int64) {
	w.look() // not before the time at which it begins
	w.started = true
	w.paceFrom = at
	for slot := range w.conns {
		if c := &w.conns[slot]; c.phase == open && w.closedLoop() {
			w.ask(slot, c, w.inFlight)
			w.flush(slot, c)
		}
	}
}

func (w *worker) closedLoop() bool { return w.mode == modeEcho && !w.paced() }

// pacedTime is when a connection's message of a round is due.
func (w *worker) pacedTime(slot int, round uint64) int64 {
	return w.paceFrom + int64(w.rate.at(w.share.number(slot, round)))
}

// nextDue is when the next message is due.
func (w *worker) nextDue() int64 { return w.pacedTime(w.slot, w.round) }

func (w *worker) pacing() bool { return w.paced() && w.paceFrom >= 0 && !w.handedOut }

// behind says whether a message is due that sendDue has not come to.
func (w *worker) behind() bool {
	return w.pacing() && w.nextDue() <= w.now && w.nextDue() < w.until
}

// sendDue sends what is due by now, and has the worker woken when the next is. What is due on one
// connection is sent at once.
func (w *worker) sendDue() {
	if !w.pacing() {
		return
	}
	first := w.slot
	n := w.handOut()
	if w.mode == modeConnect {
		return
	}
	for i := range min(n, len(w.conns)) {
		slot := (first + i) % len(w.conns)
		if c := &w.conns[slot]; c.phase == open {
			w.flush(slot, c)
		}
	}
}

// handOut gives connections the messages that are due by now, and says how many.
func (w *worker) handOut() (n int) {
	for ; n < paceBatch; n++ {
		at := w.nextDue()
		if at >= w.until {
			break
		}
		if at > w.now {
			w.wakeAt(at)
			break
		}
		w.moreDue(w.slot, &w.conns[w.slot], 1)
		if w.slot++; w.slot == len(w.conns) {
			w.slot = 0
			w.round++
		}
	}
	return n
}

// moreDue notes that n more messages, or rounds, of a connection are due.
func (w *worker) moreDue(slot int, c *conn, n uint64) {
	c.due += n
	switch {
	case w.mode == modeConnect:
		if c.phase == none && uint64(c.rounds)+1 == c.due { // otherwise it is on its way, or waits already
			w.ready = append(w.ready, slot)
		}
	case c.phase == open:
		if !c.outstanding() {
			c.since = w.now
		}
		c.asked = min(c.due, c.done+uint64(w.inFlight))
	case !w.reopen: // otherwise they are sent when it is open again
		w.unsent(slot, n)
	}
}

// lastDue hands out the rest when no more is going to be due.
func (w *worker) lastDue() {
	if !w.pacing() {
		return
	}
	total := w.rate.before(time.Duration(w.until - w.paceFrom))
	for slot := range w.conns {
		c := &w.conns[slot]
		if due := w.share.rounds(slot, total); due > c.due {
			w.moreDue(slot, c, due-c.due)
		}
		if w.mode == modeEcho && c.phase == open {
			w.flush(slot, c)
		}
	}
	w.handedOut = true
}

// owed is how much was due for which a connection has yet to be opened, or opened again.
func (w *worker) owed(c *conn) uint64 {
	begun := c.sent()
	switch {
	case w.mode == modeConnect:
		begun = uint64(c.rounds)
	case !w.reopen: // moreDue has counted it
		return 0
	}
	return c.due - min(c.due, begun)
}

// unsent counts messages that were due and cannot be sent any more.
func (w *worker) unsent(slot int, n uint64) {
	if n > 0 {
		w.stats.fault(faultf(unsent, "connection %d, which was not open", w.share.number(slot, 0)))
		w.stats.faults[unsent] += n - 1
	}
}
