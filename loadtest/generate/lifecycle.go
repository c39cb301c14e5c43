package generate

import (
	"fmt"

	"wsecho/loadtest/stats"
)

// A phase is a state in the life of a connection.
//
//	none → connecting → handshaking → (greeting →) open → closing → none
//
// A fault in any phase leads back to none. In mode Connect, and with -reopen, the connection is
// then opened again.
type phase uint8

const (
	// none: there is no socket. The connection has not been opened or has ended.
	none phase = iota

	// connecting: SYN has been sent.
	connecting

	// handshaking: the opening request has been sent.
	handshaking

	// greeting: the server has responded with 101, and its greetings are expected (-greeting).
	greeting

	// open: messages are sent, and their replies compared.
	open

	// closing: our close frame has been sent or will be after the frame before it. The server has to
	// send its own, unless it closed first, and then to end TCP (RFC 6455, section 7.1.1).
	closing

	numPhases
)

// phases holds, for each phase, the fault if a wait exceeds the timeout and the fault if TCP ends.
var phases = [numPhases]struct {
	timeout     stats.Failure
	timeoutText string // %v is the timeout in seconds
	ended       stats.Failure
	endedText   string // %s is how TCP ended: see lost
}{
	connecting: { // opener.connected handles the end
		timeout: stats.ConnectFailed, timeoutText: "no answer in %v s",
	},
	handshaking: {
		timeout: stats.HandshakeFailed, timeoutText: "no response in %v s",
		ended: stats.HandshakeFailed, endedText: "the connection was %s before the response",
	},
	greeting: {
		timeout: stats.TimedOut, timeoutText: "no greeting came in %v s, and -greeting expects one",
		ended: stats.Cut, endedText: "the connection was %s before the greeting that -greeting expects, without a close frame",
	},
	open: { // the timeout applies only while messages are outstanding
		timeout: stats.TimedOut, timeoutText: "nothing came in %v s",
		ended: stats.Cut, endedText: "the connection was %s, without a close frame",
	},
	closing: { // the end is no fault after the server's close frame
		timeout: stats.TeardownFailed, timeoutText: "the server has not ended the connection in %v s",
		ended: stats.TeardownFailed, endedText: "the connection was %s, without a close frame",
	},
}

// setPhase changes the phase and the counts that depend on it. Nothing else changes a phase.
func (cs *conns) setPhase(c conn, to phase) {
	switch c.phase {
	case connecting, handshaking, greeting:
		cs.openings.handshakes--
	case open:
		cs.open--
	}
	switch to {
	case connecting, handshaking, greeting:
		cs.openings.handshakes++
	case open:
		cs.open++
		if c.rounds > 1 && cs.Mode != Connect {
			cs.counts.Reopened++
		}
	}
	if c.phase < open && to >= open {
		cs.openings.settle(c)
	}
	c.phase = to
}

// checkTimeout returns a fault if the connection has waited in its phase for the timeout, in
// nanoseconds, or longer.
func (s *slot) checkTimeout(now, timeout int64) *stats.Fault {
	if s.phase == none || now-s.since < timeout || s.phase == open && !s.outstanding() {
		return nil
	}
	row := &phases[s.phase]
	f := stats.Faultf(row.timeout, row.timeoutText, float64(timeout)/1e9)
	if s.phase == open {
		f.Detail += fmt.Sprintf(", and %d replies were outstanding", s.scheduled-s.done)
	}
	return f
}
