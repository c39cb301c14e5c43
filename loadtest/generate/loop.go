package generate

import (
	"fmt"
	"time"

	"wsecho/internal/netpoll"
)

// run runs the event loop. It returns after drain, when all connections are closed and none has to
// be opened for messages that were due.
func (w *worker) run() {
	defer close(w.mail.finished)
	for !w.conns.period.draining || w.conns.live+w.conns.openings.pending() > 0 {
		if err := w.pass(); err != nil {
			w.err = fmt.Errorf("worker: %w", err)
			return
		}
	}
}

// pass runs the loop once: it opens connections and sends messages that are due, waits for events,
// and handles them.
func (w *worker) pass() error {
	w.conns.readClock()
	w.opener.rampUp()
	w.pacer.sendDue()
	w.opener.open()
	n, woken, err := w.conns.poller.Wait(w.events, w.waitTime())
	if err != nil {
		return err
	}
	w.conns.readClock()
	w.measureIfDue()
	if woken {
		w.mail.read()
	}
	for i := range w.events[:n] {
		w.event(&w.events[i])
	}
	w.runQueue()
	w.housekeep()
	return nil
}

// waitTime returns how long the worker may wait for events: 0 if it has work left.
func (w *worker) waitTime() time.Duration {
	cs := &w.conns
	if len(cs.queue) > 0 || len(cs.openings.ready) > 0 && !w.opener.busy() || w.pacer.behind() {
		return 0
	}
	return sweepTime
}

// event handles one event.
func (w *worker) event(e *netpoll.Event) {
	if e.Gen() == alarmGen {
		return // it has ended the wait
	}
	c := w.conns.at(int(e.Gen()))
	if int(c.fd) != e.FD() || c.phase == none {
		return // the connection was closed earlier in this batch
	}
	if c.phase == connecting {
		if e.Writable() {
			w.opener.connected(c, e.Ended())
		}
		return
	}
	if e.Writable() && c.phase > handshaking && (c.written < c.scheduled || c.controlPending) {
		c.since = w.conns.now
		w.conns.flush(c)
	}
	if e.Readable() {
		switch c.phase {
		case none: // flush has failed
		case handshaking:
			w.opener.receive(c, e.Ended())
		default:
			w.conns.turn(c, e.Ended())
		}
	}
}

// runQueue gives one turn to each connection that is in the queue at the beginning.
func (w *worker) runQueue() {
	cs := &w.conns
	n := len(cs.queue)
	for _, index := range cs.queue[:n] {
		// A connection that was reopened meanwhile is no longer queued or has nothing to read.
		c := cs.at(index)
		if !c.queued || c.phase <= connecting {
			continue
		}
		c.queued = false
		if c.phase == handshaking {
			w.opener.receive(c, false)
		} else {
			cs.turn(c, false)
		}
	}
	cs.queue = cs.queue[:copy(cs.queue, cs.queue[n:])]
}

// housekeep does the periodic work: it ends pauses before openings and checks timeouts.
func (w *worker) housekeep() {
	cs := &w.conns
	if !w.sweep.due(cs.now) {
		return
	}
	cs.openings.endPauses(cs.now)
	if cs.period.draining && cs.now >= cs.period.giveUp {
		w.abandon()
		return
	}
	for index := range w.sweep.part(len(cs.slots)) {
		w.opener.expire(cs.at(index))
	}
}
