package pool

import (
	"fmt"
	"time"

	"wsecho/internal/netpoll"
)

// run is the event loop. It returns when the worker is draining and its last connection has ended,
// or with an error if the poller fails.
func (w *worker) run() error {
	defer w.abandonMail()
	for {
		if err := w.pass(w.patience()); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		if w.drain.begun && w.conns.load.Load() == 0 && w.mail.closeIfEmpty() {
			return nil
		}
	}
}

// pass waits for events or messages, at most for patience, and handles them. It reads the clock
// once.
func (w *worker) pass(patience time.Duration) error {
	n, woken, err := w.conns.poller.Wait(w.events, patience)
	if err != nil {
		return err
	}
	w.conns.now = w.clock()
	w.conns.count.Wakeups++
	w.conns.count.Events += uint64(n)
	if woken {
		w.readMail()
	}
	for i := range w.events[:n] {
		w.event(&w.events[i])
	}
	w.runQueue()
	w.housekeep()
	return nil
}

// patience returns how long the worker may sleep if no event arrives; -1: without limit.
func (w *worker) patience() time.Duration {
	switch {
	case len(w.conns.queue) > 0:
		return 0
	case w.periodic():
		return sweepTime
	}
	return -1
}

// event handles one event.
func (w *worker) event(e *netpoll.Event) {
	if e.Gen() == listenerGen {
		w.accept(e.FD())
		return
	}
	l := life{e.Fd, e.Gen()}
	c, ok := w.conns.find(l)
	if !ok {
		w.conns.count.StaleEvents++ // the connection was closed earlier in this batch
		return
	}
	if e.Ended() {
		c.set(ended)
	}
	if e.Readable() {
		c.set(unread)
	}
	if e.Writable() && w.conns.store.hasUnsent(c.slot) {
		w.conns.drainBacklog(c)
	} else {
		w.conns.turn(c)
	}
	if w.drain.begun {
		w.closeWhenAnswered(l)
	}
}

// runQueue gives a turn to each connection that is in the queue when runQueue begins.
func (w *worker) runQueue() {
	cs := &w.conns
	n := len(cs.queue)
	for _, l := range cs.queue[:n] {
		if c, ok := cs.find(l); ok {
			c.clear(queued)
			cs.turn(c)
			if w.drain.begun {
				w.closeWhenAnswered(l)
			}
		}
	}
	cs.queue = cs.queue[:copy(cs.queue, cs.queue[n:])]
}

// readMail carries out the messages in the mailbox.
func (w *worker) readMail() {
	w.messages = w.mail.take(w.messages)
	for _, m := range w.messages {
		if m.do != nil {
			m.do(w)
		} else {
			w.admit(m.arrival)
		}
	}
	clear(w.messages)
}

// abandonMail closes the mailbox of a worker that has ended, and the connections that were on their
// way to it. Goroutines that wait for an answer see that ended is closed.
func (w *worker) abandonMail() {
	for _, m := range w.mail.abandon() {
		if m.do == nil {
			w.conns.census.out(m.arrival.source, true)
			w.conns.load.Add(-1)
			w.conns.count.Ended[InternalFailed]++
			netpoll.Close(m.arrival.fd)
		}
	}
}
