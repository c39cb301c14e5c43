package echo

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// control answers a control frame that has arrived whole (section 5.5).
func (e *Endpoint) control(s *State, b *Buffer, h header, size int) {
	from, n := b.Start+size, int(h.length)
	payload := b.Bytes[from : from+n]
	unmask(payload, h.mask)
	b.Start = from + n
	e.Count.frameIn(h.op, n)

	switch h.op {
	case ws.OpPing:
		// Section 5.5.2: the pong has the ping's payload, and is sent as soon as
		// possible: before the end of a message whose fragments surround it.
		if s.phase == Open {
			e.reply(b, ws.OpPong, true, from, n)
		}
	case ws.OpPong:
		// Section 5.5.3: nobody expects an answer to an unsolicited pong.
	case ws.OpClose:
		e.closed(s, b, from, n)
	}
}

// closed takes the peer's close frame, whose body is n bytes at from. A sound
// one is sent back with its code and reason (section 5.5.1); if we had sent
// ours first, there is nothing more to say.
func (e *Endpoint) closed(s *State, b *Buffer, from, n int) {
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

// checkCloseBody is the code in the body of a close frame, or the rule that
// the body breaks.
func checkCloseBody(body []byte) (ws.StatusCode, *Violation) {
	switch len(body) {
	case 0:
		return ws.StatusNoStatusRcvd, nil
	case 1:
		return 0, errCloseBodyTooShort
	}
	code := ws.StatusCode(binary.BigEndian.Uint16(body))
	if !maySend(code) {
		return 0, errCloseCode
	}
	if !utf8.Valid(body[2:]) {
		return 0, errCloseReasonNotUTF8
	}
	return code, nil
}

// maySend says whether a close frame may have this code (section 7.4, and
// IANA's WebSocket Close Code Number Registry for the codes since).
func maySend(code ws.StatusCode) bool {
	switch {
	case code == 1004, code == 1005, code == 1006: // reserved: never on the wire
		return false
	case 1000 <= code && code <= 1014:
		return true
	}
	return 3000 <= code && code <= 4999 // libraries' and applications' own
}

// fail ends a connection whose peer has broken a rule: what it is owed so far
// stays in the output, and a close frame follows (section 7.1.7).
func (e *Endpoint) fail(s *State, b *Buffer, v *Violation) {
	if s.phase == CloseSent {
		s.setPhase(Done, s.Code())
		return
	}
	b.OutEnd = len(e.appendClose(b.Bytes[:b.OutEnd], v.Code, v.Rule))
	s.setPhase(Done, int(v.Code))
}

// appendClose appends a close frame; its reason must fit a control frame.
func (e *Endpoint) appendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	n := 2 + len(reason)
	dst = append(dst, byte(ws.OpClose)|finBit, byte(n))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	e.Count.frameOut(ws.OpClose, n)
	return append(dst, reason...)
}
