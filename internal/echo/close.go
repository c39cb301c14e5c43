package echo

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// control answers a complete control frame (section 5.5).
func (e *Endpoint) control(s *State, b *Buffer, h header, size int) {
	from, n := b.Start+size, int(h.length)
	payload := b.Bytes[from : from+n]
	unmask(payload, h.mask)
	b.Start = from + n
	e.Count.frameIn(h.op, n)

	switch h.op {
	case ws.OpPing:
		// Section 5.5.2: the pong has the ping's payload, and is sent as soon as possible, even
		// between the fragments of a message.
		if s.phase == Open {
			e.reply(b, ws.OpPong, true, from, n)
		}
	case ws.OpPong:
		// Section 5.5.3: a pong needs no response, solicited or not.
	case ws.OpClose:
		e.peerClosed(s, b, from, n)
	}
}

// peerClosed handles the peer's close frame, whose body is the n bytes at from. It echoes the code
// and reason of a valid one (section 5.5.1). If we sent a close frame first, it answers nothing.
func (e *Endpoint) peerClosed(s *State, b *Buffer, from, n int) {
	if s.phase == CloseSent {
		s.setPhase(Done, s.Code())
		return
	}
	code, v := checkCloseBody(b.Bytes[from : from+n])
	if v != nil {
		e.fail(s, b, v)
		return
	}
	e.reply(b, ws.OpClose, true, from, n)
	s.setPhase(Done, int(code))
}

// checkCloseBody returns the code in the body of a close frame, or the rule that the body breaks.
func checkCloseBody(body []byte) (ws.StatusCode, *Violation) {
	switch len(body) {
	case 0:
		return ws.StatusNoStatusRcvd, nil
	case 1:
		return 0, errCloseBodyTooShort
	}
	code := ws.StatusCode(binary.BigEndian.Uint16(body))
	if !isValidCloseCode(code) {
		return 0, errCloseCode
	}
	if !utf8.Valid(body[2:]) {
		return 0, errCloseReasonNotUTF8
	}
	return code, nil
}

// isValidCloseCode reports whether a close frame may contain this code (section 7.4, and for newer
// codes IANA's WebSocket Close Code Number Registry).
func isValidCloseCode(code ws.StatusCode) bool {
	switch {
	case code == 1004, code == 1005, code == 1006: // reserved: never on the wire
		return false
	case 1000 <= code && code <= 1014:
		return true
	}
	return 3000 <= code && code <= 4999 // for libraries and applications (section 7.4.2)
}

// fail ends a connection whose peer has broken a rule (section 7.1.7). It adds a close frame to the
// output, after the replies to earlier frames.
func (e *Endpoint) fail(s *State, b *Buffer, v *Violation) {
	if s.phase == CloseSent {
		s.setPhase(Done, s.Code())
		return
	}
	b.OutEnd = len(e.appendClose(b.Bytes[:b.OutEnd], v.Code, v.Rule))
	s.setPhase(Done, int(v.Code))
}

// appendClose appends a close frame. Its reason must have at most 123 bytes, to fit into a control
// frame.
func (e *Endpoint) appendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	n := 2 + len(reason)
	dst = append(dst, byte(ws.OpClose)|finBit, byte(n))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	e.Count.frameOut(ws.OpClose, n)
	return append(dst, reason...)
}
