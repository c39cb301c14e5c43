package generate

import (
	"fmt"
	"time"

	"wsecho/internal/netpoll"
)

// run is the loop. It returns when the worker has been told to wind up, all connections are closed,
// and none is to be opened for what was due.
func (w *worker) run() {
	defer close(w.mail.finished)
	for !w.conns.period.winding || w.conns.live+w.conns.openings.pending() > 0 {
		if err := w.pass(); err != nil {
			w.err = fmt.Errorf("worker: %w", err)
			return
		}
	}
}

// pass does what is due, waits until something happens, and does everything that follows from it.
func (w *worker) pass() error {
	w.conns.look()
	w.opener.rampUp()
	w.pacer.sendDue()
	w.opener.open()
	n, woken, err := w.conns.poller.Wait(w.events, w.patience())
	if err != nil {
		return err
	}
	w.conns.look()
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

// patience returns for how long the worker has nothing to do if nothing happens.
func (w *worker) patience() time.Duration {
	cs := &w.conns
	if len(cs.queue) > 0 || len(cs.openings.ready) > 0 && !w.opener.busy() || w.pacer.behind() {
		return 0
	}
	return sweepTime
}

// event handles one event.
func (w *worker) event(e *netpoll.Event) {
	if e.Gen() == alarmGen {
		return // its purpose was to end the wait
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
	if e.Writable() && c.phase > handshaking && (c.written < c.asked || c.speaks) {
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

// runQueue gives a turn to each connection that is in the queue when it begins.
func (w *worker) runQueue() {
	cs := &w.conns
	n := len(cs.queue)
	for _, index := range cs.queue[:n] {
		// A connection that was opened again in the meantime is not queued, or reads nothing.
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

// housekeep does the periodic work: it ends pauses, and finds connections that have waited too
// long.
func (w *worker) housekeep() {
	cs := &w.conns
	if !w.sweep.due(cs.now) {
		return
	}
	cs.openings.endPauses(cs.now)
	if cs.period.winding && cs.now >= cs.period.giveUp {
		w.abandon()
		return
	}
	for index := range w.sweep.part(len(cs.slots)) {
		w.opener.expire(cs.at(index))
	}
}
