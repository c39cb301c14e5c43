package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

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
// that overflows makes clients wait for a second and more. When the time is over, only those are opened that owe something.
func (w *worker) openReady() {
	n := 0
	for ; n < len(w.ready) && w.opening < w.handshakes; n++ {
		slot := w.ready[n]
		if c := &w.conns[slot]; w.now < w.until || w.owed(c) > 0 {
			w.connect(slot, c)
		}
	}
	w.ready = w.ready[:copy(w.ready, w.ready[n:])]
}

// connect opens a socket and begins to connect it. To a server on this host TCP is connected by the time that
// connect(2) returns, so the request can leave at once, without an event.
func (w *worker) connect(slot int, c *conn) {
	w.look()
	number := w.share.number(slot, uint64(c.rounds))
	*c = conn{fd: -1, since: w.now, base: number, rounds: c.rounds + 1, tries: c.tries,
		asked: c.asked, written: c.written, done: c.done, due: c.due,
		address: w.preferred, greetings: w.greetings}
	w.dial(slot, c)
}

// dial begins to connect a socket to the connection's address.
func (w *worker) dial(slot int, c *conn) {
	var source netip.Addr
	if len(w.sources) > 0 {
		source = w.sources[c.base%uint64(len(w.sources))]
	}
	c.since = w.now
	fd, err := netpoll.Connect(w.target.addrs[c.address], source)
	if err != nil {
		w.refused(slot, c, connectFault(err))
		return
	}
	c.fd = int32(fd)
	w.live++
	w.setPhase(c, connecting)
	if !w.sendRequest(slot, c) {
		return
	}
	switch c.phase {
	case connecting: // there will be an event when it is connected
		w.watch(slot, c, netpoll.ReadWrite)
	case handshaking:
		w.watch(slot, c, netpoll.Read)
	}
}

// refused goes on with the next address of the server's name after one could not be connected. When
// none is left, the connection has failed. Connections that are opened later begin with the address
// that was reached last.
func (w *worker) refused(slot int, c *conn, f *fault) {
	n := len(w.target.addrs)
	if n == 1 {
		w.fail(slot, c, f)
		return
	}
	w.refusals[slot] = append(w.refusals[slot], fmt.Sprintf("%v: %s", w.target.addrs[c.address], f.detail))
	next := uint8((int(c.address) + 1) % n)
	if c.address == w.preferred {
		w.preferred = next
	}
	if c.refusals++; int(c.refusals) == n {
		f.detail = strings.Join(w.refusals[slot], "; ")
		delete(w.refusals, slot)
		w.fail(slot, c, f)
		return
	}
	if c.fd >= 0 {
		w.release(slot, c)
	}
	c.address = next
	w.dial(slot, c)
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
			w.refused(slot, c, connectFault(err))
			return
		}
	}
	w.sendRequest(slot, c)
}

// sendRequest sends the opening request if TCP is connected. It reports whether the socket is still
// in use: otherwise the connection has failed, or another address is being connected.
func (w *worker) sendRequest(slot int, c *conn) bool {
	w.request = appendRequest(w.request[:0], w.requestHead, c.base)
	n, err := netpoll.Send(int(c.fd), w.request)
	switch {
	case err == nil && n == 0:
		return true
	case err == unix.ECONNRESET, err == unix.EPIPE: // it had been connected
		w.fail(slot, c, faultf(handshakeFailed, "request: %v", err))
	case err != nil:
		w.refused(slot, c, connectFault(err))
	case n < len(w.request):
		w.fail(slot, c, faultf(handshakeFailed, "request: %v", unix.ENOBUFS)) // an empty socket takes so little
	default:
		delete(w.refusals, slot)
		w.setPhase(c, handshaking)
		return true
	}
	return false
}

// readResponse takes what has arrived of the response.
func (w *worker) readResponse(slot int, c *conn, p []byte) {
	if begun := w.responses[slot]; begun != nil {
		p = append(begun, p...)
		delete(w.responses, slot)
	}
	response, rest, whole := cutResponse(p)
	switch {
	case len(p)-len(rest) > longestResponse || !whole && len(p) > longestResponse:
		w.fail(slot, c, faultf(handshakeFailed, "no end of the response in %d bytes", longestResponse))
		return
	case !whole:
		w.responses[slot] = append([]byte(nil), p...)
		return
	}
	if err := checkResponse(response, c.base, w.subprotocols...); err != nil {
		w.fail(slot, c, err.(*fault))
		return
	}
	record(w.stats.handshake, w.now-c.since, 1)
	*w.askedAt(slot, c.asked) = c.since // for begin: nothing is outstanding
	c.since = w.now
	if c.greetings > 0 {
		w.setPhase(c, greeting)
		w.read(slot, c, rest)
		return
	}
	w.opened(c)
	if w.read(slot, c, rest); c.phase == open { // what came behind the response was not asked for
		w.begin(slot, c)
	}
}

// opened notes that a connection is open: the server has answered, and greeted if it is to.
func (w *worker) opened(c *conn) {
	w.setPhase(c, open)
	w.settle(c)
	if c.rounds > 1 && w.mode != modeConnect {
		w.stats.reopened++
	}
}

// begin begins what a connection is for.
func (w *worker) begin(slot int, c *conn) {
	switch {
	case w.mode == modeConnect:
		start := *w.askedAt(slot, c.asked) // the latency is that of the whole connection
		w.ask(slot, c, 1)
		*w.askedAt(slot, c.done) = start
	case w.mode == modeIdle:
		w.ask(slot, c, 1)
	case w.paced(): // what was due before, if it is not the first time
		c.asked = min(c.due, c.done+uint64(w.inFlight))
	case w.started:
		w.ask(slot, c, w.inFlight)
	}
	w.flush(slot, c)
	w.partIfDone(slot, c)
}

// openAgain opens a connection anew that is over, if that is what it is for.
func (w *worker) openAgain(slot int, c *conn) {
	switch {
	case w.mode == modeConnect:
		if !w.paced() || uint64(c.rounds) < c.due {
			w.ready = append(w.ready, slot)
		}
	case w.reopen && c.tries == 0:
		c.tries = 1
		w.ready = append(w.ready, slot)
	case w.reopen:
		// A server that is away, or closes whatever comes, is not stormed.
		pause := min(sweepTime<<(c.tries-1), longestPause)
		c.tries = min(c.tries+1, mostTries)
		w.later = append(w.later, retrial{slot, w.now + int64(pause)})
	}
}

// A retrial is an opening that waits.
type retrial struct {
	slot int
	at   int64
}

const (
	longestPause = time.Second
	mostTries    = 16 // pauses have long been the longest
)

// retry puts connections whose pause is over in the queue of those to be opened.
func (w *worker) retry() {
	w.later = slices.DeleteFunc(w.later, func(r retrial) bool {
		if r.at <= w.now {
			w.ready = append(w.ready, r.slot)
		}
		return r.at <= w.now
	})
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
