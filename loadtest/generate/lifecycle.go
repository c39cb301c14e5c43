package generate

import (
	"fmt"

	"wsecho/loadtest/stats"
)

// phase is where a connection is in its life.
//
//	none → connecting → handshaking → (greeting →) open → closing → none
//
// A fault leads from each phase back to none. In mode Connect, and with -reopen, the life begins
// again.
type phase uint8

const (
	// none: no socket. Not opened yet, or ended.
	none phase = iota

	// connecting: the answer to SYN is awaited.
	connecting

	// handshaking: the request has been sent, and the response is awaited.
	handshaking

	// greeting: the server has answered with 101, and its greeting is awaited (-greeting).
	greeting

	// open: messages are sent, and their replies compared.
	open

	// closing: our close frame has been sent or is about to be. The server's is awaited unless it
	// was first, and then the end of TCP, which the server has to begin (RFC 6455, section 7.1.1).
	closing

	numPhases
)

// phases says what it means in each phase if the connection waits longer than the timeout, and if
// TCP ends.
var phases = [numPhases]struct {
	late      stats.Failure
	lateText  string // %v is the timeout in seconds
	ended     stats.Failure
	endedText string // %s says whether TCP was ended or reset
}{
	connecting: { // opener.connected finds out why it ended
		late: stats.ConnectFailed, lateText: "no answer in %v s",
	},
	handshaking: {
		late: stats.HandshakeFailed, lateText: "no response in %v s",
		ended: stats.HandshakeFailed, endedText: "the connection was %s before the response",
	},
	greeting: {
		late: stats.TimedOut, lateText: "no greeting came in %v s, and -greeting expects one",
		ended: stats.Cut, endedText: "the connection was %s before the greeting that -greeting expects, without a close frame",
	},
	open: { // late only if replies are awaited
		late: stats.TimedOut, lateText: "nothing came in %v s",
		ended: stats.Cut, endedText: "the connection was %s, without a close frame",
	},
	closing: { // the end is no fault once the server's close frame has come
		late: stats.TeardownFailed, lateText: "the server has not ended the connection in %v s",
		ended: stats.TeardownFailed, endedText: "the connection was %s, without a close frame",
	},
}

// setPhase is the only place that changes a phase.
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

// late returns a fault if the connection has waited longer than the timeout, in nanoseconds, for
// what it waits for.
func (s *slot) late(now, timeout int64) *stats.Fault {
	if s.phase == none || now-s.since < timeout || s.phase == open && !s.outstanding() {
		return nil
	}
	row := &phases[s.phase]
	f := stats.Faultf(row.late, row.lateText, float64(timeout)/1e9)
	if s.phase == open {
		f.Detail += fmt.Sprintf(", and %d replies were awaited", s.asked-s.done)
	}
	return f
}
