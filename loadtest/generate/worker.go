package generate

import (
	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
)

// eventBatch is the most events that one wait returns.
const eventBatch = 256

// A worker is an event loop with some of the connections. All of it belongs to the goroutine of
// run, except mail.
type worker struct {
	conns  conns
	opener opener
	pacer  pacer
	sweep  sweep
	alarm  alarm
	events []netpoll.Event

	err  error // why run has failed; valid once mail.finished is closed
	mail mailbox
}

// newWorker returns the worker with that number. It returns an error if the process may have no
// more descriptors.
func newWorker(p *Plan, number int) (*worker, error) {
	poller, err := netpoll.New()
	if err != nil {
		return nil, err
	}
	w := &worker{
		conns:  newConns(p, number, poller),
		events: make([]netpoll.Event, eventBatch),
		mail:   newMailbox(poller),
	}
	w.opener = opener{cs: &w.conns, alarm: &w.alarm, refusals: map[int][]string{}}
	w.pacer = pacer{cs: &w.conns, alarm: &w.alarm}
	if w.alarm, err = newAlarm(&p.Clock, poller); err != nil {
		poller.Close()
		return nil, err
	}
	return w, nil
}

// close closes what run has left open. Sockets of a run that has not ended stay open: the process
// is about to exit.
func (w *worker) close() {
	select {
	case <-w.mail.finished:
		for _, fd := range w.conns.left {
			netpoll.Close(fd)
		}
	default:
	}
	w.conns.poller.Close()
	w.alarm.close()
}

// start begins the sending. From and until are the measured time. All connections have been opened
// or have failed to: before that, those that are open would take the server's time from the others.
// At a rate, message 0 is due at the time at.
func (w *worker) start(at, from, until int64) {
	cs := &w.conns
	cs.period.until = until
	if cs.Mode != Idle { // what counts there is the one echo after opening
		cs.period.from = from
	}
	cs.look() // not before the time at which it begins
	cs.period.started = true
	cs.period.rateFrom = at
	if cs.Mode != Echo || cs.Paced() {
		return
	}
	for index := range cs.slots {
		if c := cs.at(index); c.phase == open {
			cs.ask(c, cs.InFlight)
			cs.flush(c)
		}
	}
}

// measureIfDue begins to measure once its time has come.
func (w *worker) measureIfDue() {
	cs := &w.conns
	if cs.now >= cs.period.from && !cs.counts.Measured {
		cs.latency.floor = max(cs.latency.floor, cs.period.from)
		cs.counts.StartMeasuring()
	}
}

// windUp closes the connections that are open, each as soon as nothing is outstanding on it. At a
// fixed rate that includes everything that was due, for which connections are still opened: a
// server that is slow at the end is not spared it.
func (w *worker) windUp() {
	cs := &w.conns
	cs.period.winding = true
	cs.period.giveUp = cs.now + int64(cs.Timeout)
	cs.period.until = min(cs.period.until, cs.now)
	owing := w.pacer.active()
	w.pacer.finish()
	for index := range cs.slots {
		c := cs.at(index)
		if c.phase > none && c.phase < open && !owing {
			cs.release(c)
		}
		cs.closeIfDone(c)
	}
	cs.openings.hurry(cs.now) // a pause does not outlast the run
}

// abandon ends what has not ended in time.
func (w *worker) abandon() {
	cs := &w.conns
	for index := range cs.slots {
		c := cs.at(index)
		switch c.phase {
		case none:
		case closing:
			cs.fail(c, stats.Faultf(stats.TeardownFailed, "the server has not ended the connection in %v", cs.Timeout))
		default:
			cs.fail(c, stats.Faultf(stats.TimedOut, "%v after the last message was due, %d replies were awaited", cs.Timeout, max(c.asked, c.due)-c.done))
		}
		w.pacer.unsent(c, cs.owed(c))
	}
	cs.openings.ready, cs.openings.later = nil, nil
}

// exchange returns the worker's counts and continues with the empty ones that it is given.
func (w *worker) exchange(empty *stats.Counts) *stats.Counts {
	counts := w.conns.counts
	counts.Open = w.conns.open
	empty.Measured = counts.Measured
	w.conns.counts = empty
	return counts
}
