package generate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
)

// Close codes of the server that are no fault with -reopen.
const (
	goingAway      = 1001 // the server shuts down (RFC 6455, section 7.4.1)
	serviceRestart = 1012 // the client should connect again (IANA's registry of close codes)
)

// normalClosure is close code 1000 (RFC 6455, section 7.4.1).
var normalClosure = []byte{1000 >> 8, 1000 & 0xff}

// closed handles the server's close frame, whose payload is the parser's Control.
func (cs *conns) closed(c conn) {
	if c.gotClose = true; c.phase == closing {
		return
	}
	code, reason := stats.NoCode, ""
	if p := c.parser.Control; len(p) >= 2 {
		code, reason = int(binary.BigEndian.Uint16(p)), string(p[2:])
	}
	c.code = uint16(code)
	if !cs.Reopen || code != goingAway && code != serviceRestart {
		cs.count(c, stats.Faultf(stats.Closed, "the server closed with %d %q", code, reason))
	}
	cs.startClose(c, c.parser.Control[:min(2, len(c.parser.Control))])
}

// lost handles the end of TCP: io.EOF, or an error.
func (cs *conns) lost(c conn, err error) {
	if c.phase == closing && c.gotClose {
		cs.release(c)
		cs.openAgain(c)
		return
	}
	how := "reset: " + err.Error()
	if errors.Is(err, io.EOF) {
		how = "ended by the server"
	}
	row := &phases[c.phase]
	if row.ended == stats.Cut {
		c.code = stats.NoCloseFrame
	}
	cs.fail(c, stats.Faultf(row.ended, row.endedText, how))
}

// closeIfDone closes a connection at the end of the run, if nothing is outstanding on it.
func (cs *conns) closeIfDone(c conn) {
	if !cs.period.draining || c.phase != open || c.outstanding() {
		return
	}
	if cs.Leave {
		cs.unclosed = append(cs.unclosed, int(c.fd))
		cs.forget(c)
		return
	}
	cs.startClose(c, normalClosure)
}

// startClose begins the close handshake, or answers the server's close frame. A partly sent message
// is completed first; no other message is sent.
func (cs *conns) startClose(c conn, code []byte) {
	cs.setPhase(c, closing)
	c.since = cs.now
	c.scheduled = c.sent()
	cs.sendControl(c, ws.OpClose, code)
}

// fail counts a fault and closes the connection, which may be opened again.
func (cs *conns) fail(c conn, f *stats.Fault) {
	cs.count(c, f)
	settled := c.phase >= open
	if c.fd >= 0 {
		cs.release(c)
	}
	if !settled {
		cs.openings.settle(c)
	}
	if cs.Mode == Connect && !cs.Paced() {
		cs.openings.addLater(c, cs.now)
		return
	}
	cs.openAgain(c)
}

// count counts a fault, with the connection and message in its detail.
func (cs *conns) count(c conn, f *stats.Fault) {
	f.Detail = fmt.Sprintf("connection %d, message %d: %s", cs.share.number(c.index, 0), c.done, f.Detail)
	cs.counts.AddFault(f, 1)
}

// release closes the socket. Closing also removes it from the poller, since no other descriptor
// refers to it.
func (cs *conns) release(c conn) {
	netpoll.Close(int(c.fd))
	cs.forget(c)
}

// forget moves a connection to phase none without closing its socket.
func (cs *conns) forget(c conn) {
	cs.setPhase(c, none)
	c.fd = -1
	cs.live--
	if c.controlPending {
		c.controlPending = false
		delete(cs.control, c.index)
	}
	delete(cs.responses, c.index)

	// Messages that were sent and not echoed are lost. If the connection is opened again, it
	// continues with the message after them.
	sent := c.sent()
	cs.counts.Ended(c.code, sent-min(sent, c.done))
	c.scheduled, c.written, c.done, c.offset = sent, sent, sent, 0
}

// openAgain schedules the next opening of a connection that has ended: in mode Connect, or with
// -reopen.
func (cs *conns) openAgain(c conn) {
	switch {
	case cs.Mode == Connect:
		if !cs.Paced() || uint64(c.rounds) < c.due {
			cs.openings.add(c)
		}
	case cs.Reopen:
		cs.openings.addAfterFailure(c, cs.now)
	}
}

// backlog returns the number of messages, or in mode Connect of rounds, that were due and still
// need the connection to be opened.
func (cs *conns) backlog(c conn) uint64 {
	begun := c.sent()
	switch {
	case cs.Mode == Connect:
		begun = uint64(c.rounds)
	case !cs.Reopen: // pacer.moreDue has counted them as unsent
		return 0
	}
	return c.due - min(c.due, begun)
}
