package main

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

const (
	bufferSize = 256 << 10
	eventBatch = 256

	// sweepTime is how often a part of the connections is looked at for what they have waited for too long;
	// all of them are in about a second.
	sweepTime  = 20 * time.Millisecond
	sweepParts = 50

	// paceBatch is how many messages are handed out before replies are looked at again: at a rate
	// that cannot be kept there is always one more that is due.
	paceBatch = 256

	// alarmSlot is the alarm's in events; no connection has it.
	alarmSlot = math.MaxUint32
)

// A worker is an event loop with some of the connections. All of it belongs to the goroutine of
// run. Others leave a letter, which is a function, and wake it.
type worker struct {
	*plan
	share  share
	poller *netpoll.Poller
	alarm  int // a timerfd, for epoll's own timeout is in whole milliseconds
	alarms int64
	events []netpoll.Event

	letters  chan func()
	settled  chan struct{} // closed when each connection has been opened or could not be
	finished chan struct{} // closed when run has returned; err says why, and stats may be had
	err      error

	conns     []conn
	asked     []int64 // when the outstanding messages of each connection were sent: a ring for each
	ringSize  int     // inFlight, or the next power of two
	queue     []int   // slots that have more to read or to send
	control   map[int][]byte
	responses map[int][]byte   // that have not arrived whole
	refusals  map[int][]string // what the addresses tried so far have said, if the server has several
	preferred uint8            // index in target.addrs of the address that new connections begin with
	buffer    []byte
	request   []byte
	spoken    []byte
	stats     *stats
	together  together
	now       int64

	ramped    int   // slots whose time to be opened has come
	ready     []int // slots to be opened as soon as may be
	later     []retrial
	opening   int // handshakes outstanding
	unsettled int
	live      int   // sockets that are in use
	open      int   // connections that are open
	left      []int // sockets that are not in use any more, but have yet to be closed

	started   bool  // all connections are open, or could not be
	paceFrom  int64 // when message 0 is due; -1: not yet
	round     uint64
	slot      int  // whose turn it is
	handedOut bool // no more is going to be due

	stopped int64 // the timer's, when it was looked at last
	floor   int64 // the latency of what was due earlier does not count
	from    int64 // when measuring begins
	until   int64 // when no more is sent
	winding bool  // what is open is to be closed
	giveUp  int64 // when, if winding, what is still open has failed

	swept   int
	sweepAt int64
}

func newWorker(p *plan, id int) (*worker, error) {
	slots := slotsOf(id, p.workers, p.connections)
	w := &worker{
		plan:      p,
		share:     share{uint64(id), uint64(p.workers), uint64(p.connections)},
		events:    make([]netpoll.Event, eventBatch),
		letters:   make(chan func(), 16),
		settled:   make(chan struct{}),
		finished:  make(chan struct{}),
		conns:     make([]conn, slots),
		control:   map[int][]byte{},
		responses: map[int][]byte{},
		refusals:  map[int][]string{},
		buffer:    make([]byte, bufferSize),
		stats:     newStats(),
		unsettled: slots,
		paceFrom:  -1,
		from:      math.MaxInt64,
		stopped:   p.timer.stopped(),
		until:     math.MaxInt64,
	}
	w.ringSize = 1 << bits.Len(uint(p.inFlight-1))
	w.asked = make([]int64, slots*w.ringSize)
	w.stats.measured = p.mode == modeIdle
	var err error
	if w.poller, err = netpoll.New(); err != nil {
		return nil, err
	}
	if w.alarm, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		w.poller.Close()
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if err := w.poller.Add(w.alarm, alarmSlot, netpoll.Read); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *worker) close() {
	select {
	case <-w.finished:
		for _, fd := range w.left {
			netpoll.Close(fd)
		}
	default: // they are run's still; the process is about to end
	}
	w.poller.Close()
	unix.Close(w.alarm)
}

// tell leaves a letter. It is not read any more if the worker has finished.
func (w *worker) tell(letter func()) {
	select {
	case w.letters <- letter:
		w.poller.Wake()
	case <-w.finished:
	}
}

// run is the loop. It returns when it has been told to wind up, all connections are
// closed, and none waits to be opened for what was due.
func (w *worker) run() {
	defer close(w.finished)
	for !w.winding || w.live+len(w.ready)+len(w.later) > 0 {
		if err := w.pass(); err != nil {
			w.err = fmt.Errorf("worker: %w", err)
			return
		}
	}
}

// pass does what is due, waits for something to happen, and does all that
// follows from it.
func (w *worker) pass() error {
	w.look()
	w.rampUp()
	w.sendDue()
	w.openReady()
	n, woken, err := w.poller.Wait(w.events, w.patience())
	if err != nil {
		return err
	}
	w.look()
	if w.now >= w.from && !w.stats.measured {
		w.floor = max(w.floor, w.from)
		w.stats.startMeasuring()
	}
	if woken {
		w.readLetters()
	}
	for i := range w.events[:n] {
		w.event(&w.events[i])
	}
	w.runQueue()
	w.sweep()
	return nil
}

// look reads the clock. What was on its way while the process was stopped is late by more than the server's doing, so its
// latency does not count.
func (w *worker) look() {
	w.now = w.clock()
	if p := w.timer.stopped(); p != w.stopped {
		w.stopped = p
		w.floor = max(w.floor, w.now)
	}
}

func (w *worker) patience() time.Duration {
	if len(w.queue) > 0 || len(w.ready) > 0 && w.opening < w.handshakes || w.behind() {
		return 0
	}
	return sweepTime
}

// wakeAt sets the alarm, which is then due at the earliest time for which it was set
// and that is still to come.
func (w *worker) wakeAt(at int64) {
	if w.now < w.alarms && w.alarms <= at {
		return
	}
	w.alarms = at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at-w.clock()))}
	if err := unix.TimerfdSettime(w.alarm, 0, &spec, nil); err != nil {
		panic("wsload: timerfd_settime: " + err.Error())
	}
}

func (w *worker) readLetters() {
	for {
		select {
		case letter := <-w.letters:
			letter()
		default:
			return
		}
	}
}

func (w *worker) event(e *netpoll.Event) {
	if e.Gen() == alarmSlot {
		return // it is enough to be awake
	}
	slot := int(e.Gen())
	c := &w.conns[slot]
	if int(c.fd) != e.FD() || c.phase == none {
		return // closed earlier in this batch
	}
	if c.phase == connecting {
		if e.Writable() {
			w.connected(slot, c, e.Ended())
		}
		return
	}
	if e.Writable() && c.phase > handshaking && (c.written < c.asked || c.speaks) {
		c.since = w.now
		w.flush(slot, c)
	}
	if e.Readable() && c.phase != none {
		w.turn(slot, c, e.Ended())
	}
}

// goOn puts a connection in the queue of those that have more to read or to send, but have had
// their turn.
func (w *worker) goOn(slot int, c *conn) {
	if !c.queued {
		c.queued = true
		w.queue = append(w.queue, slot)
	}
}

func (w *worker) runQueue() {
	n := len(w.queue)
	for _, slot := range w.queue[:n] {
		// A connection that was opened anew in the meantime is not queued, or reads nothing.
		if c := &w.conns[slot]; c.queued && c.phase > connecting {
			c.queued = false
			w.turn(slot, c, false)
		}
	}
	w.queue = w.queue[:copy(w.queue, w.queue[n:])]
}

// sweep looks for connections that have waited too long.
func (w *worker) sweep() {
	if w.now < w.sweepAt {
		return
	}
	w.sweepAt = w.now + int64(sweepTime)
	w.retry()
	if w.winding && w.now >= w.giveUp {
		w.abandon()
		return
	}
	for range min(len(w.conns), len(w.conns)/sweepParts+1) {
		w.swept = (w.swept + 1) % len(w.conns)
		c := &w.conns[w.swept]
		timeout := int64(w.timeout)
		if c.phase == connecting { // no address takes the time of the others
			timeout /= int64(len(w.target.addrs))
		}
		f := c.late(w.now, timeout)
		switch {
		case f == nil:
		case c.phase == connecting:
			w.refused(w.swept, c, f)
		default:
			w.fail(w.swept, c, f)
		}
	}
}

// setPhase is the one place where a phase changes.
func (w *worker) setPhase(c *conn, to phase) {
	switch c.phase {
	case connecting, handshaking, greeting:
		w.opening--
	case open:
		w.open--
	}
	switch to {
	case connecting, handshaking, greeting:
		w.opening++
	case open:
		w.open++
	}
	c.phase = to
}

// fail counts a fault, and closes the connection.
func (w *worker) fail(slot int, c *conn, f *fault) {
	w.count(slot, c, f)
	settled := c.phase >= open
	if c.fd >= 0 {
		w.release(slot, c)
	}
	if !settled {
		w.settle(c)
	}
	if w.mode == modeConnect && !w.paced() {
		w.later = append(w.later, retrial{slot, w.now})
		return
	}
	w.openAgain(slot, c)
}

// count counts a fault.
func (w *worker) count(slot int, c *conn, f *fault) {
	f.detail = fmt.Sprintf("connection %d, message %d: %s", w.share.number(slot, 0), c.done, f.detail)
	w.stats.fault(f)
}

// release closes the socket, which ends the watching too: nobody has a duplicate of it.
func (w *worker) release(slot int, c *conn) {
	netpoll.Close(int(c.fd))
	w.forget(slot, c)
}

// forget ends a connection as far as the plan is concerned.
func (w *worker) forget(slot int, c *conn) {
	w.setPhase(c, none)
	c.fd = -1
	w.live--
	if c.speaks {
		c.speaks = false
		delete(w.control, slot)
	}
	delete(w.responses, slot)

	// What was sent and not echoed is lost. If the connection is opened again, it goes on with the message after that.
	sent := c.sent()
	w.stats.ended(c.code, sent-min(sent, c.done))
	c.asked, c.written, c.done, c.offset = sent, sent, sent, 0
}

// windUp closes what is open, as soon as nothing is outstanding on it. At a fixed rate that is all
// that was due, for which connections are still opened: a server that is slow at the end is not spared it.
func (w *worker) windUp() {
	w.winding = true
	w.giveUp = w.now + int64(w.timeout)
	w.until = min(w.until, w.now)
	owing := w.pacing()
	w.lastDue()
	for slot := range w.conns {
		c := &w.conns[slot]
		if c.phase > none && c.phase < open && !owing {
			w.release(slot, c)
		}
		w.partIfDone(slot, c)
	}
	for i := range w.later {
		w.later[i].at = w.now // a pause does not outlast the run
	}
}

// abandon ends what has not ended in time.
func (w *worker) abandon() {
	for slot := range w.conns {
		c := &w.conns[slot]
		switch c.phase {
		case none:
		case closing:
			w.fail(slot, c, faultf(teardownFailed, "the server has not ended the connection in %v", w.timeout))
		default:
			w.fail(slot, c, faultf(timedOut, "%v after the last message was due, %d replies were awaited", w.timeout, max(c.asked, c.due)-c.done))
		}
		w.unsent(slot, w.owed(c))
	}
	w.ready, w.later = nil, nil
}
