package generate

import (
	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
)

// eventBatch is the maximum number of events that one wait returns.
const eventBatch = 256

// A worker is an event loop with a part of the connections. Everything but mail belongs to the
// goroutine that calls run.
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

// newWorker returns the worker with the given number. It returns an error if the descriptor limit
// is reached.
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
	w.opener = opener{cs: &w.conns, alarm: &w.alarm, addrErrors: map[int][]string{}}
	w.pacer = pacer{cs: &w.conns, alarm: &w.alarm}
	if w.alarm, err = newAlarm(&p.Clock, poller); err != nil {
		poller.Close()
		return nil, err
	}
	return w, nil
}

// close closes the worker's descriptors. If run has not returned, the sockets stay open: the
// process is about to exit.
func (w *worker) close() {
	select {
	case <-w.mail.finished:
		for _, fd := range w.conns.unclosed {
			netpoll.Close(fd)
		}
	default:
	}
	w.conns.poller.Close()
	w.alarm.close()
}

// start begins sending. The measured time begins at from. It ends at until, and sending with it.
// The first opening of every connection has succeeded or failed by now, since traffic on some would
// slow down the opening of the others. At a fixed rate, message 0 is due at begin.
func (w *worker) start(begin, from, until int64) {
	cs := &w.conns
	cs.period.until = until
	if cs.Mode != Idle { // in mode Idle, the echo after opening counts
		cs.period.from = from
	}
	cs.readClock() // now is begin or later
	cs.period.started = true
	cs.period.rateFrom = begin
	if cs.Mode != Echo || cs.Paced() {
		return
	}
	for index := range cs.slots {
		if c := cs.at(index); c.phase == open {
			cs.schedule(c, cs.InFlight)
			cs.flush(c)
		}
	}
}

// measureIfDue starts measuring when the measured time begins.
func (w *worker) measureIfDue() {
	cs := &w.conns
	if cs.now >= cs.period.from && !cs.counts.Measured {
		cs.latency.floor = max(cs.latency.floor, cs.period.from)
		cs.counts.StartMeasuring()
	}
}

// drain closes the open connections, each when nothing is outstanding on it. At a fixed rate all
// messages that were due are still sent; in mode Connect and with -reopen, connections are opened
// for them. Otherwise a server that is slow at the end would look fast.
func (w *worker) drain() {
	cs := &w.conns
	cs.period.draining = true
	cs.period.giveUp = cs.now + int64(cs.Timeout)
	cs.period.until = min(cs.period.until, cs.now)
	sending := w.pacer.active()
	w.pacer.finish()
	for index := range cs.slots {
		c := cs.at(index)
		if c.phase > none && c.phase < open && !sending {
			cs.release(c)
		}
		cs.closeIfDone(c)
	}
	cs.openings.skipPauses(cs.now) // no pause delays the end of the run
}

// abandon fails the connections that have not ended in time.
func (w *worker) abandon() {
	cs := &w.conns
	for index := range cs.slots {
		c := cs.at(index)
		switch c.phase {
		case none:
		case closing:
			cs.fail(c, stats.Faultf(stats.TeardownFailed, "the server has not ended the connection in %v", cs.Timeout))
		default:
			cs.fail(c, stats.Faultf(stats.TimedOut, "%v after the last message was due, %d replies were outstanding", cs.Timeout, max(c.scheduled, c.due)-c.done))
		}
		w.pacer.unsent(c, cs.backlog(c))
	}
	cs.openings.ready, cs.openings.later = nil, nil
}

// exchange returns the worker's counts and replaces them with the given empty ones.
func (w *worker) exchange(empty *stats.Counts) *stats.Counts {
	counts := w.conns.counts
	counts.Open = w.conns.open
	empty.Measured = counts.Measured
	w.conns.counts = empty
	return counts
}
