package main

// At a fixed rate messages are numbered, and connections take turns: message n is due at the
// time that the rate says, on connection n modulo their number, whether or not
// replies have come. A connection that has as many in flight as it may sends
// later, but its messages stay due when they were, and their latencies count from
// there. So a server that stalls is not spared the messages that would have been sent meanwhile.

// startPace says when message 0 is due.
func (w *worker) startPace(at int64) {
	w.paceFrom = at
}

// pacedTime is when a connection's message of a round is due.
func (w *worker) pacedTime(slot int, round uint64) int64 {
	return w.paceFrom + int64(w.rate.at(w.share.number(slot, round)))
}

// nextDue is when the next message is due.
func (w *worker) nextDue() int64 { return w.pacedTime(w.slot, w.round) }

func (w *worker) pacing() bool { return w.paced() && w.paceFrom >= 0 }

// behind says whether a message is due that sendDue has not come to.
func (w *worker) behind() bool {
	return w.pacing() && w.nextDue() <= w.now && w.nextDue() < w.until
}

// sendDue sends what is due by now, and has the worker woken when the next is.
func (w *worker) sendDue() {
	if !w.pacing() {
		return
	}
	for range paceBatch {
		at := w.nextDue()
		if at >= w.until {
			return
		}
		if at > w.now {
			w.wakeAt(at)
			return
		}
		w.oneDue(w.slot, &w.conns[w.slot])
		if w.slot++; w.slot == len(w.conns) {
			w.slot = 0
			w.round++
		}
	}
}

// oneDue notes that one more message, or round, of a connection is due.
func (w *worker) oneDue(slot int, c *conn) {
	c.due++
	switch {
	case w.mode == modeConnect:
		if c.phase == none && uint64(c.rounds)+1 == c.due { // otherwise it is on its way, or waits already
			w.ready = append(w.ready, slot)
		}
	case c.phase != open:
		w.stats.fault(faultf(unsent, "connection %d, which has failed before", w.share.number(slot, 0)))
	default:
		if !c.outstanding() {
			c.since = w.now
		}
		c.asked = min(c.due, c.done+uint64(w.inFlight))
		w.flush(slot, c)
	}
}
