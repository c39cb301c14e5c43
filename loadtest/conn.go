package main

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
)

// phase is where a connection is in its life.
//
//	none → connecting → handshaking → (greeting →) open → closing → none
//
// A fault leads from each of them back to none. In modeConnect, and with -reopen, it goes around again.
type phase uint8

const (
	// none: no socket. Not opened yet, or over.
	none phase = iota

	// connecting: an answer to SYN is awaited.
	connecting

	// handshaking: the request has been sent, and the response is awaited.
	handshaking

	// greeting: the server has answered with 101, and its greeting is awaited (-greeting).
	greeting

	// open: messages are sent, and their replies compared.
	open

	// closing: our close frame has been sent, or is about to be. The server's is awaited unless it was
	// first, and then the end of TCP, which is the server's to begin (RFC 6455, section 7.1.1).
	closing
)

// A conn is a connection, or the place for one. It belongs to its worker.
type conn struct {
	fd         int32
	phase      phase
	queued     bool   // there is more to read or to send: see goOn
	speaks     bool   // a control frame is to be sent: worker.control has it
	toldEnd    bool   // in closing: the server's close frame has come
	awaitsRoom bool   // the poller watches for room to write, too
	tries      uint8  // openings since a message was last verified: see openAgain
	code       uint16 // with which the server has ended it; 0: it has not

	rounds uint32 // how often it was opened
	offset int32  // of the message after those written: how much has been sent

	address   uint8 // index in target.addrs of the one that is tried, or connected
	refusals  uint8 // addresses that could not be connected in this attempt
	greetings uint8 // messages that the server is still to send before the first echo

	since int64  // when what is awaited began to be
	base  uint64 // where on the tape it begins

	// Numbers of messages, in the order of asking. done <= written+1, and
	// written <= asked.
	asked   uint64 // have been due, and may be sent
	written uint64 // have been sent
	done    uint64 // have been verified
	due     uint64 // at a fixed rate: have been due. In modeConnect: rounds, not messages

	reply reply
}

func (c *conn) outstanding() bool { return c.done < c.asked }

// turn reads from a connection, once, and sends. If there may be more, it goes on after
// the others.
func (w *worker) turn(slot int, c *conn, ended bool) {
	n, err := netpoll.Recv(int(c.fd), w.buffer)
	w.look()
	if err != nil {
		w.ended(slot, c, err)
		return
	}
	if n == len(w.buffer) || n > 0 && ended { // an end that is known to be there has to be read for itself
		w.goOn(slot, c)
	}
	switch {
	case n == 0 && c.phase >= greeting:
		w.flush(slot, c)
	case n == 0:
	case c.phase == handshaking:
		w.readResponse(slot, c, w.buffer[:n])
	case !c.toldEnd: // nothing follows a close frame
		w.read(slot, c, w.buffer[:n])
	}
}

// read takes what has arrived on an open connection, and sends what that makes due.
func (w *worker) read(slot int, c *conn, p []byte) {
	there := w.take(slot, c, p)
	w.recordTogether()
	if there {
		w.flush(slot, c)
	}
}

// take takes replies and control frames. It reports whether the connection is still open.
func (w *worker) take(slot int, c *conn, p []byte) bool {
	c.since = w.now
	greeted := false
	for len(p) > 0 && c.phase != none { // none: what was said in answer could not be sent
		if c.done < c.written && c.reply.between() {
			n, messages := w.tape.replied(p, c.base, c.done, c.written-c.done)
			for range messages {
				w.verified(slot, c)
			}
			if p = p[n:]; n > 0 {
				continue
			}
		}
		var awaited *message
		switch {
		case c.phase == greeting:
			awaited = anyMessage
		case c.done < c.written || c.done == c.written && c.offset > 0:
			awaited = w.tape.message(c.base, c.done)
		}
		n, s, err := c.reply.take(p, awaited)
		if err != nil {
			w.fail(slot, c, c.hint(err.(*fault)))
			return false
		}
		p = p[n:]
		switch s {
		case verified:
			if c.phase == greeting {
				if c.greetings--; c.greetings == 0 {
					w.opened(c)
					greeted = true
				}
				continue
			}
			w.verified(slot, c)
		case pinged:
			w.say(slot, c, ws.OpPong, c.reply.control)
		case toldClose:
			w.closed(slot, c)
			return false
		}
	}
	if greeted && c.phase == open {
		w.begin(slot, c)
	}
	return c.phase != none
}

// hint adds to a fault of a connection's first reply that it may be a greeting.
func (c *conn) hint(f *fault) *fault {
	if c.phase == open && c.done == 0 && (f.kind == unasked || f.kind == mismatched) {
		f.detail += "; if the server sends a greeting first, use -greeting"
	}
	return f
}

// verified counts a message whose reply is there and right, and decides what
// comes next. Rates are of the replies that come in the measured time, and latencies
// of the messages that were due in it.
func (w *worker) verified(slot int, c *conn) {
	if w.now < w.until {
		w.stats.messages++
		w.stats.bytes += uint64(w.tape.message(c.base, c.done).size)
	}
	if due := w.dueTime(slot, c); due >= w.floor {
		if due != w.together.due {
			w.recordTogether()
			w.together.due = due
		}
		w.together.times++
	}
	c.done++
	c.tries = 0
	switch {
	case w.mode == modeConnect:
		w.startClose(slot, c, normally)
	case w.mode == modeIdle:
	case w.paced():
		c.asked = min(c.due, c.done+uint64(w.inFlight))
	case w.now < w.until:
		w.ask(slot, c, 1)
	}
	w.partIfDone(slot, c)
}

// together is how many replies of one read are to messages that were due at one time, as those are as a rule that were sent in one
// write: they have one latency, and are recorded at once.
type together struct {
	due, times int64
}

// recordTogether records them, before the time is another.
func (w *worker) recordTogether() {
	if w.together.times > 0 {
		record(w.stats.latency, w.now-w.together.due, w.together.times)
		w.together.times = 0
	}
}

// ask has so many more messages sent at the next flush.
func (w *worker) ask(slot int, c *conn, n int) {
	if !c.outstanding() {
		c.since = w.now
	}
	for range n {
		*w.askedAt(slot, c.asked) = w.now
		c.asked++
	}
}

// dueTime is when the oldest message that is outstanding should have been sent, or in
// modeConnect its connection opened. In a closed loop that is when it was sent.
func (w *worker) dueTime(slot int, c *conn) int64 {
	switch {
	case w.paced() && w.mode == modeConnect:
		return w.pacedTime(slot, uint64(c.rounds)-1)
	case w.paced() && w.mode == modeEcho:
		return w.pacedTime(slot, c.done)
	}
	return *w.askedAt(slot, c.done)
}

// askedAt is where it is kept when a message was asked for, as long as it is outstanding.
func (w *worker) askedAt(slot int, n uint64) *int64 {
	ring := w.asked[slot*w.ringSize:]
	return &ring[n&uint64(w.ringSize-1)]
}

// sendMost is after how much of long messages the others have their turn. More would lie in the
// kernel unread, in memory that no cache holds when the server comes to it.
const sendMost = 128 << 10

// flush sends what there is to send, until the kernel takes no more, when there will
// be an event when it does again; or sendMost, when it goes on in another turn.
func (w *worker) flush(slot int, c *conn) {
	sent := 0
	for c.written < c.asked || c.speaks {
		if sent >= sendMost {
			w.goOn(slot, c)
			return
		}
		if c.speaks && c.offset == 0 { // between two frames
			if !w.sendControl(slot, c) {
				return
			}
			continue
		}
		p, messages := w.tape.run(c.base, c.written, c.asked-c.written, int(c.offset))
		n, err := netpoll.Send(int(c.fd), p)
		if err != nil {
			w.ended(slot, c, err)
			return
		}
		sent += n
		c.wrote(w.tape, n, len(p), messages)
		if n < len(p) {
			w.awaitRoom(slot, c)
			return
		}
	}
}

// awaitRoom has the poller say when there is room to write. A connection that has filled
// its socket once will do so again.
func (w *worker) awaitRoom(slot int, c *conn) {
	if c.awaitsRoom {
		return
	}
	c.awaitsRoom = true
	if err := w.poller.Modify(int(c.fd), uint32(slot), netpoll.ReadWrite); err != nil {
		panic("wsload: " + err.Error()) // it is there
	}
}

// wrote notes that n bytes were sent of a run of so many, which are the rest of so many messages.
func (c *conn) wrote(t *tape, n, of int, messages uint64) {
	if n == of && messages > 0 {
		c.written, c.offset = c.written+messages, 0
		return
	}
	for c.offset += int32(n); c.offset > 0; c.written++ {
		size := int32(t.message(c.base, c.written).frameSize())
		if c.offset < size {
			return
		}
		c.offset -= size
	}
}

// say sends a control frame, or has it sent as soon as no frame is half sent and there is room.
func (w *worker) say(slot int, c *conn, op ws.OpCode, payload []byte) {
	mask := [4]byte{0x5e, 0xa7, 0x31, 0x0d}
	frame := append(w.spoken[:0], finBit|byte(op), maskBit|byte(len(payload)))
	frame = append(frame, mask[:]...)
	frame = append(frame, payload...)
	ws.Cipher(frame[len(frame)-len(payload):], mask, 0)
	w.spoken = frame
	if c.speaks {
		w.control[slot] = append(w.control[slot], frame...)
		return
	}
	n := 0
	if c.offset == 0 {
		var err error
		if n, err = netpoll.Send(int(c.fd), frame); err != nil {
			w.ended(slot, c, err)
			return
		}
		if n == len(frame) {
			return
		}
		w.awaitRoom(slot, c)
	}
	c.speaks = true
	w.control[slot] = append([]byte(nil), frame[n:]...)
}

// sendControl says whether all that there was to say has been taken.
func (w *worker) sendControl(slot int, c *conn) bool {
	n, err := netpoll.Send(int(c.fd), w.control[slot])
	if err != nil {
		w.ended(slot, c, err)
		return false
	}
	if n < len(w.control[slot]) {
		w.control[slot] = w.control[slot][n:]
		w.awaitRoom(slot, c)
		return false
	}
	delete(w.control, slot)
	c.speaks = false
	return true
}

// partIfDone ends a connection on which nothing is outstanding, at the end of the run.
func (w *worker) partIfDone(slot int, c *conn) {
	if !w.winding || c.phase != open || c.outstanding() {
		return
	}
	if w.leave {
		w.left = append(w.left, int(c.fd))
		w.forget(slot, c)
		return
	}
	w.startClose(slot, c, normally)
}

// startClose begins the close handshake, or answers the server's. A message that is half
// sent is sent to its end before, and no other is.
func (w *worker) startClose(slot int, c *conn, code []byte) {
	w.setPhase(c, closing)
	c.since = w.now
	c.asked = c.sent()
	w.say(slot, c, ws.OpClose, code)
}

// normally is the code of a connection that has done what it was for.
var normally = []byte{1000 >> 8, 1000 & 0xff}

// sent is how many messages have been sent, with one that has only been begun.
func (c *conn) sent() uint64 {
	if c.offset > 0 {
		return c.written + 1
	}
	return c.written
}

const (
	goingAway      = 1001 // the server is shut down (RFC 6455, section 7.4.1)
	noCode         = 1005 // a close frame without a code
	noCloseFrame   = 1006 // the end of TCP without one
	serviceRestart = 1012 // of IANA's registry: come again
)

// closed handles the server's close frame, which is in the reply's control.
func (w *worker) closed(slot int, c *conn) {
	if c.toldEnd = true; c.phase == closing {
		return
	}
	code, reason := noCode, ""
	if p := c.reply.control; len(p) >= 2 {
		code, reason = int(binary.BigEndian.Uint16(p)), string(p[2:])
	}
	c.code = uint16(code)
	if c.phase == greeting {
		w.settle(c)
	}
	if !w.reopen || code != goingAway && code != serviceRestart {
		w.count(slot, c, faultf(closed, "the server closed with %d %q", code, reason))
	}
	w.startClose(slot, c, c.reply.control[:min(2, len(c.reply.control))])
}

// ended handles the end of TCP: io.EOF, or an error.
func (w *worker) ended(slot int, c *conn, err error) {
	how := "reset: " + err.Error()
	if errors.Is(err, io.EOF) {
		how = "ended by the server"
	}
	switch {
	case c.phase == closing && c.toldEnd:
		w.release(slot, c)
		w.openAgain(slot, c)
	case c.phase == closing:
		w.fail(slot, c, faultf(teardownFailed, "the connection was %s, without a close frame", how))
	case c.phase == handshaking:
		w.fail(slot, c, faultf(handshakeFailed, "the connection was %s before the response", how))
	case c.phase == greeting:
		c.code = noCloseFrame
		w.fail(slot, c, faultf(cut, "the connection was %s before the greeting that -greeting expects, without a close frame", how))
	default:
		c.code = noCloseFrame
		w.fail(slot, c, faultf(cut, "the connection was %s, without a close frame", how))
	}
}

// late returns a fault if the connection has waited longer than the timeout for what it awaits.
func (c *conn) late(now, timeout int64) *fault {
	if c.phase == none || now-c.since < timeout {
		return nil
	}
	seconds := float64(timeout) / 1e9
	switch c.phase {
	case connecting:
		return faultf(connectFailed, "no answer in %v s", seconds)
	case handshaking:
		return faultf(handshakeFailed, "no response in %v s", seconds)
	case greeting:
		return faultf(timedOut, "no greeting came in %v s, and -greeting expects one", seconds)
	case closing:
		return faultf(teardownFailed, "the server has not ended the connection in %v s", seconds)
	}
	if c.outstanding() {
		return faultf(timedOut, "nothing came in %v s, and %d replies were awaited", seconds, c.asked-c.done)
	}
	return nil
}
