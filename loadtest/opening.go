package main

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// rampUp puts connections whose time has come in the queue of those to be opened.
func (w *worker) rampUp() {
	for w.ramped < len(w.conns) && w.now < w.until {
		at := int64(w.ramp.at(w.share.number(w.ramped, 0)))
		if at > w.now {
			w.wakeAt(at)
			return
		}
		if w.mode != modeConnect || !w.paced() {
			w.ready = append(w.ready, w.ramped)
		}
		w.ramped++
	}
}

// openReady opens connections, as long as few enough handshakes are outstanding. A listen queue
// that overflows makes clients wait for a second and more.
func (w *worker) openReady() {
	n := 0
	for n < len(w.ready) && w.opening < w.handshakes && w.now < w.until {
		slot := w.ready[n]
		w.connect(slot, &w.conns[slot])
		n++
	}
	w.ready = w.ready[:copy(w.ready, w.ready[n:])]
}

// connect opens a socket and begins to connect it. To a server on this host TCP is connected by the time that
// connect(2) returns, so the request can leave at once, without an event.
func (w *worker) connect(slot int, c *conn) {
	w.now = w.clock()
	number := w.share.number(slot, uint64(c.rounds))
	*c = conn{fd: -1, since: w.now, base: number, rounds: c.rounds + 1, due: c.due}
	var source netip.Addr
	if len(w.sources) > 0 {
		source = w.sources[number%uint64(len(w.sources))]
	}
	fd, err := netpoll.Connect(w.target.addr, source)
	if err != nil {
		w.fail(slot, c, connectFault(err))
		return
	}
	c.fd = int32(fd)
	w.live++
	w.setPhase(c, connecting)
	w.sendRequest(slot, c)
	switch c.phase {
	case connecting: // there will be an event when it is connected
		w.watch(slot, c, netpoll.ReadWrite)
	case handshaking:
		w.watch(slot, c, netpoll.Read)
	}
}

// watch adds a connection to the poller. Room to write is watched for only on connections that
// have to wait for it once: see flush.
func (w *worker) watch(slot int, c *conn, i netpoll.Interest) {
	c.awaitsRoom = i == netpoll.ReadWrite
	if err := w.poller.Add(int(c.fd), uint32(slot), i); err != nil {
		w.fail(slot, c, connectFault(err))
	}
}

func connectFault(err error) *fault {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return faultf(connectFailed, "%v: no local port is left, or -source is not an address of this host", err)
	}
	return faultf(connectFailed, "%v", err)
}

// connected sends the request when TCP is connected, or finds out why it is not.
func (w *worker) connected(slot int, c *conn, ended bool) {
	if ended {
		if err := netpoll.ConnectError(int(c.fd)); err != nil {
			w.fail(slot, c, connectFault(err))
			return
		}
	}
	w.sendRequest(slot, c)
}

// sendRequest sends the opening request if TCP is connected.
func (w *worker) sendRequest(slot int, c *conn) {
	w.request = appendRequest(w.request[:0], w.target.host, w.target.path, c.base)
	n, err := netpoll.Send(int(c.fd), w.request)
	switch {
	case err == nil && n == 0:
	case err != nil:
		w.fail(slot, c, connectFault(err))
	case n < len(w.request):
		w.fail(slot, c, faultf(handshakeFailed, "request: %v", unix.ENOBUFS)) // an empty socket takes so little
	default:
		w.setPhase(c, handshaking)
	}
}

// readResponse takes what has arrived of the response.
func (w *worker) readResponse(slot int, c *conn, p []byte) {
	if begun := w.responses[slot]; begun != nil {
		p = append(begun, p...)
		delete(w.responses, slot)
	}
	response, rest, whole := cutResponse(p)
	switch {
	case !whole && len(p) > longestResponse:
		w.fail(slot, c, faultf(handshakeFailed, "no end of the response in %d bytes", len(p)))
		return
	case !whole:
		w.responses[slot] = append([]byte(nil), p...)
		return
	}
	if err := checkResponse(response, c.base); err != nil {
		w.fail(slot, c, err.(*fault))
		return
	}
	record(w.stats.handshake, w.now-c.since)
	start := c.since
	w.setPhase(c, open)
	c.since = w.now
	w.settle(c)
	if w.read(slot, c, rest); c.phase == open { // what came behind the response was not asked for
		w.begin(slot, c, start)
	}
}

// begin begins what a connection is for. Start is when it began to be opened.
func (w *worker) begin(slot int, c *conn, start int64) {
	switch {
	case w.winding:
		w.startClose(slot, c)
		return
	case w.mode == modeConnect:
		w.ask(slot, c, 1)
		w.asked[slot*w.inFlight] = start // what is measured is the whole of it
	case w.mode == modeIdle:
		w.ask(slot, c, 1)
	case !w.paced():
		w.ask(slot, c, w.inFlight)
	}
	w.flush(slot, c)
}

// settle counts connections that have been opened, or could not be, for the first time.
func (w *worker) settle(c *conn) {
	if c.rounds > 1 {
		return
	}
	if w.unsettled--; w.unsettled == 0 {
		close(w.settled)
	}
}
