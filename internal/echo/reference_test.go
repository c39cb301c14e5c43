package echo

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/gobwas/ws"
)

// A reference computes the answers of a server in a simple way: it has all bytes of the peer,
// parses frame after frame with gobwas/ws, and copies payloads.
type reference struct {
	answers   []answer
	part      *answer        // the valid part of an incomplete data frame at the end
	closed    bool           // the last answer is a close frame
	failed    bool           // the close frame is for a violation, with our code
	rest      []byte         // the input that is not parsed yet
	closeSent bool           // the server has sent a close frame first, and waits for the peer's
	code      ws.StatusCode  // of the close frame
	inside    answer         // the message in progress; op 0: there is none
	text      wellFormedText // of the message in progress
}

// An answer is a frame of the server.
type answer struct {
	op      ws.OpCode
	fin     bool
	payload string
}

func refer(in []byte, maxMessage uint64) *reference {
	r := &reference{rest: in}
	for !r.closed && r.frame(maxMessage) {
	}
	return r
}

func (r *reference) fail(code ws.StatusCode) bool {
	r.answers = append(r.answers, answer{ws.OpClose, true, string(binary.BigEndian.AppendUint16(nil, uint16(code)))})
	r.closed, r.failed, r.code = true, true, code
	return false
}

// frame answers the next frame, and reports whether another may follow. It parses an incomplete
// header as if zeros followed, and checks only the bytes that have arrived.
func (r *reference) frame(maxMessage uint64) bool {
	in := r.rest
	var head [ws.MaxHeaderSize]byte
	copy(head[:], in)
	h, err := ws.ReadHeader(bytes.NewReader(head[:]))
	short := head[1] & 0x7f
	lengthAt := 2
	switch short {
	case 126:
		lengthAt = 4
	case 127:
		lengthAt = 10
	}
	control := h.OpCode >= 8
	switch {
	case len(in) < 2:
		return false
	case h.OpCode > 2 && h.OpCode < 8, h.OpCode > 10,
		h.Rsv != 0,
		!h.Masked,
		control && !h.Fin,
		control && short > 125,
		!control && (h.OpCode == 0) != (r.inside.op != 0):
		return r.fail(1002)
	case len(in) < lengthAt:
		return false
	case err != nil,
		short == 126 && h.Length < 126,
		short == 127 && h.Length < 65536:
		return r.fail(1002)
	case len(in) < lengthAt+4:
		return false
	case !control && maxMessage > 0 && uint64(len(r.inside.payload))+uint64(h.Length) > maxMessage:
		return r.fail(1009)
	}
	in = in[lengthAt+4:]
	whole := int64(len(in)) >= h.Length
	if whole {
		in = in[:h.Length]
	}
	payload := make([]byte, len(in))
	for i := range payload {
		payload[i] = in[i] ^ h.Mask[i%4]
	}
	r.rest = r.rest[lengthAt+4+len(in):]
	if control {
		return whole && r.control(h.OpCode, payload)
	}
	return r.data(h, payload, whole)
}

func (r *reference) control(op ws.OpCode, payload []byte) bool {
	switch op {
	case ws.OpPing:
		r.answers = append(r.answers, answer{ws.OpPong, true, string(payload)})
	case ws.OpClose:
		r.code = ws.StatusNoStatusRcvd
		if r.closeSent {
			return r.fail(1001)
		}
		if len(payload) == 1 {
			return r.fail(1002)
		}
		if len(payload) > 1 {
			code := binary.BigEndian.Uint16(payload)
			if _, may := closeCodes[code]; !may {
				return r.fail(1002)
			}
			var reason wellFormedText
			if n := reason.take(payload[2:]); n < len(payload)-2 || len(reason.next) > 0 {
				return r.fail(1007)
			}
			r.code = ws.StatusCode(code)
		}
		r.answers = append(r.answers, answer{ws.OpClose, true, string(payload)})
		r.closed = true
	}
	return true
}

func (r *reference) data(h ws.Header, payload []byte, whole bool) bool {
	if h.OpCode != 0 {
		r.inside = answer{op: h.OpCode}
		r.text = wellFormedText{}
	}
	r.inside.payload += string(payload)
	r.part = &answer{h.OpCode, false, string(payload)}
	if r.inside.op == ws.OpText && !r.closeSent {
		n := r.text.take(payload)
		r.part.payload = string(payload[:n])
		if n < len(payload) || whole && h.Fin && len(r.text.next) > 0 {
			return r.fail(1007)
		}
	}
	if !whole {
		return false
	}
	r.part = nil
	r.answers = append(r.answers, answer{h.OpCode, h.Fin, string(payload)})
	if h.Fin {
		r.inside = answer{}
	}
	return true
}

// wellFormedText checks a text by table 3-7 of the Unicode Standard. The field next holds the
// ranges of the bytes that must follow.
type wellFormedText struct{ next [][2]byte }

// take returns the number of bytes of p before the first invalid one.
func (t *wellFormedText) take(p []byte) int {
	for i, b := range p {
		tail := [2]byte{0x80, 0xbf}
		switch {
		case len(t.next) > 0:
			if b < t.next[0][0] || b > t.next[0][1] {
				return i
			}
			t.next = t.next[1:]
		case b <= 0x7f:
		case 0xc2 <= b && b <= 0xdf:
			t.next = [][2]byte{tail}
		case b == 0xe0:
			t.next = [][2]byte{{0xa0, 0xbf}, tail}
		case 0xe1 <= b && b <= 0xec, b == 0xee, b == 0xef:
			t.next = [][2]byte{tail, tail}
		case b == 0xed:
			t.next = [][2]byte{{0x80, 0x9f}, tail}
		case b == 0xf0:
			t.next = [][2]byte{{0x90, 0xbf}, tail, tail}
		case 0xf1 <= b && b <= 0xf3:
			t.next = [][2]byte{tail, tail, tail}
		case b == 0xf4:
			t.next = [][2]byte{{0x80, 0x8f}, tail, tail}
		default:
			return i
		}
	}
	return len(p)
}

// answersIn parses the output of a server. If failed is true, it leaves out the reasons of close
// frames, since the reference does not know them.
func answersIn(t testing.TB, output []byte, failed bool) (all []answer) {
	for len(output) > 0 {
		h, payload, rest, err := takeFrame(output)
		if err != nil {
			t.Fatalf("%s is not a frame of a server: %v", abridged(string(output)), err)
		}
		if h.OpCode == ws.OpClose && failed && len(payload) > 2 {
			payload = payload[:2]
		}
		all = append(all, answer{h.OpCode, h.Fin, string(payload)})
		output = rest
	}
	return all
}

// joined returns the frames, with consecutive fragments of a message joined to one.
func joined(frames []answer) (all []answer) {
	for _, f := range frames {
		if n := len(all); n > 0 && f.op == ws.OpContinuation && !all[n-1].fin {
			all[n-1].fin = f.fin
			all[n-1].payload += f.payload
		} else {
			all = append(all, f)
		}
	}
	return all
}

// The reference must agree with the tables that the rules use.
func TestReferenceAgreesWithTheTables(t *testing.T) {
	for begun, may := range beginnings() {
		for b := range 256 {
			var text wellFormedText
			if n := text.take([]byte(begun + string([]byte{byte(b)}))); (n > len(begun)) != may[b] {
				t.Fatalf("after % x, %02x is valid: got %t, want %t", begun, b, n > len(begun), may[b])
			}
		}
	}
	for _, c := range texts {
		r := refer(append(text(c.text).wire(), ping("?").wire()...), 0)
		if valid := c.invalid < 0 && c.whole; valid == r.closed || valid && len(r.answers) != 2 || !valid && r.code != 1007 {
			t.Errorf("%s: got %v, want an echo if and only if the text is valid: %t", c.name, r.answers, valid)
		}
	}
}
