package pool

import "wsecho/internal/echo"

// # The life of a connection
//
// The protocol has phases ([echo.Phase]), the socket has flags (slot.go), and the store knows
// whether there is a write backlog. Together they determine the connection's activity: what it
// waits for, for how long, and what happens on timeout.
//
//	                 request            our close frame
//	awaitingRequest ─────────▶ open ─────────────────────▶ closeSent
//	       │ refused             │ peer's close frame,        │ peer's close frame
//	       │                     │ or violation               │
//	       └─────────────────────┴──────────▶ (Done) ◀────────┘
//	                                            │ flushed
//	                                            ▼        peer's FIN, or LingerTimeout
//	                                        lingering ──────────────────────────────▶ closed
//
// In between, a connection may be sending, waitingForRoom, openStarved or closeSentStarved.
//
// While lingering, our side of TCP is shut down and input is discarded. If the socket were closed
// at once, the kernel would answer bytes still in flight with a reset, which can destroy the reply
// before the peer has read it (RFC 9112, section 9.6).
//
// A reset by the peer closes the connection from every activity. So does its FIN, but only after
// output that waits for the peer has been sent. The table of activities has the timeouts.
type activity uint8

const (
	// none is the activity of an unused slot.
	none activity = iota

	// awaitingRequest: the request is not complete. A timeout is answered with 408.
	awaitingRequest

	// awaitingRefusal: the connection is beyond a limit. It is answered with 503 as soon as its
	// request begins; some clients drop a response that arrives before they have sent a request.
	awaitingRefusal

	// open: messages are echoed. A silent peer is sent a ping after a third of IdleTimeout, and a
	// close frame with 1001 after all of it.
	open

	// openStarved: open, and part of a frame stays in the kernel because memory is short. Every
	// sweep tries again to read it.
	openStarved

	// closeSent: our close frame is sent, and the peer's has not arrived.
	closeSent

	// closeSentStarved: closeSent, and part of a frame stays in the kernel because memory is short.
	closeSentStarved

	// sending: there is a write backlog, in any phase. The connection is not read from until the
	// kernel has taken it.
	sending

	// waitingForRoom: memory is short and the kernel has no room for a reply, so the connection is
	// not read from.
	waitingForRoom

	// finished: everything is sent, and our side of TCP is about to be shut down. No connection
	// stays in this activity.
	finished

	// lingering: our side of TCP is shut down, and the peer's FIN has not arrived.
	lingering

	numActivities
)

// timeout is a time limit of [Config]. A change between activities with the same timeout does not
// restart it.
type timeout uint8

const (
	timeoutNone timeout = iota
	timeoutHandshake
	timeoutIdle // in open: since bytes were last read
	timeoutWrite
	timeoutClose
	timeoutLinger
	numTimeouts
)

// expiry is what happens when an activity's timeout expires.
type expiry uint8

const (
	never       expiry = iota
	refuse408          // the request was too slow
	goodbye1001        // the peer was idle for too long
	cutWrite           // end: WriteTimedOut
	cutClose           // end: CloseTimedOut
	endLinger          // end: Completed
)

// activities describes each activity: its name, its timeout, and what happens on expiry.
var activities = [numActivities]struct {
	name    string // shown by /connz
	timeout timeout
	expiry  expiry
	ping    bool // send a ping after a third of the timeout
	retry   bool // repeat the turn in every sweep

	// delivers: the timeout restarts while the peer acknowledges output. See progress.go.
	delivers bool
}{
	none:             {name: "none"},
	awaitingRequest:  {name: "handshake", timeout: timeoutHandshake, expiry: refuse408},
	awaitingRefusal:  {name: "handshake", timeout: timeoutHandshake, expiry: refuse408},
	open:             {name: "open", timeout: timeoutIdle, expiry: goodbye1001, ping: true},
	openStarved:      {name: "open", timeout: timeoutIdle, expiry: goodbye1001, ping: true, retry: true},
	closeSent:        {name: "close sent", timeout: timeoutClose, expiry: cutClose, delivers: true},
	closeSentStarved: {name: "close sent", timeout: timeoutClose, expiry: cutClose, retry: true, delivers: true},
	sending:          {name: "write backlog", timeout: timeoutWrite, expiry: cutWrite, delivers: true},
	waitingForRoom:   {name: "waiting for room", timeout: timeoutWrite, expiry: cutWrite, delivers: true},
	finished:         {name: "closing"},
	lingering:        {name: "waiting for FIN", timeout: timeoutLinger, expiry: endLinger, delivers: true},
}

// activityOf returns the activity that a connection's phase, flags and write backlog determine.
func activityOf(s *slot, unsent bool) activity {
	switch {
	case s.is(shut):
		return lingering
	case unsent:
		return sending
	case s.is(parked):
		return waitingForRoom
	}
	switch s.proto.Phase() {
	case echo.Handshake:
		if s.is(surplus) {
			return awaitingRefusal
		}
		return awaitingRequest
	case echo.Open:
		if s.is(starved) {
			return openStarved
		}
		return open
	case echo.CloseSent:
		if s.is(starved) {
			return closeSentStarved
		}
		return closeSent
	}
	return finished
}

// update sets a connection's activity. It is the only function that does, and must be called after
// every change of what activityOf depends on. The timeout restarts unless the new activity has the
// same one.
func (cs *conns) update(c conn) {
	next := activityOf(c.slot, cs.store.hasUnsent(c.slot))
	row := &activities[next]
	if row.timeout != activities[c.activity].timeout {
		c.restart(cs.now)
	}
	c.activity = next
	switch hasDeadline := cs.limits[row.timeout] > 0 || row.retry; {
	case hasDeadline && !c.is(timed):
		c.set(timed)
		cs.deadlines.add(c.fd)
	case !hasDeadline:
		cs.removeDeadline(c)
	}
}

// removeDeadline removes the connection from the deadlines.
func (cs *conns) removeDeadline(c conn) {
	if c.is(timed) {
		c.clear(timed)
		cs.deadlines.remove(c.fd)
	}
}

// deadline returns when expire is to be called next for a connection in the deadlines.
func (cs *conns) deadline(fd int) tick {
	s := &cs.slots[fd]
	row := &activities[s.activity]
	limit := cs.limits[row.timeout]
	switch {
	case row.retry:
		return cs.now
	case row.delivers:
		return s.since + firstLook(limit)
	case row.ping && (!s.is(pinged) || s.is(marked)):
		return s.since + limit/3
	}
	return s.since + limit
}

// expire does the work that is due at the connection's deadline.
func (cs *conns) expire(c conn) {
	row := &activities[c.activity]
	limit, waited := cs.limits[row.timeout], cs.now-c.since
	if row.retry {
		c.set(unread)
		cs.goOn(c)
	}
	if limit == 0 {
		return // there was only the retry
	}
	unacked := false // whether the peer has not acknowledged all output
	if waited >= firstLook(limit) && cs.progress.delivers(c) {
		waited, limit, unacked = cs.progress.outstanding(c, cs.now, limit)
	}
	if waited < limit {
		if row.ping && waited >= limit/3 {
			cs.ping(c)
		}
		return
	}
	if unacked && c.proto.Phase() != echo.Open {
		cs.end(c, WriteTimedOut)
		return
	}
	switch row.expiry {
	case refuse408:
		cs.refuse(c, echo.RefuseTooSlow)
	case goodbye1001:
		cs.count.IdleTimeouts++
		cs.goodbye(c, goodbyeIdle)
	case cutWrite:
		cs.end(c, WriteTimedOut)
	case cutClose:
		cs.end(c, CloseTimedOut)
	case endLinger:
		cs.end(c, Completed)
	}
}
