package echo

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// TestFrameViolations sends frames that a client must not send, alone and after other frames that
// the server must answer first.
func TestFrameViolations(t *testing.T) {
	long := strings.Repeat("x", 126)
	type violation struct {
		name   string
		inside bool // a fragmented message
		sends  sendable
	}
	violations := []violation{
		{"a text that is not masked (5.1)", false, frame{op: ws.OpText, fin: true, unmasked: true, payload: "x"}},
		{"an empty text that is not masked (5.1)", false, frame{op: ws.OpText, fin: true, unmasked: true}},
		{"a ping that is not masked (5.1)", false, frame{op: ws.OpPing, fin: true, unmasked: true, payload: "x"}},
		{"a close that is not masked (5.1)", false, frame{op: ws.OpClose, fin: true, unmasked: true}},
		{"a continuation that is not masked (5.1)", true, frame{op: ws.OpContinuation, fin: true, unmasked: true}},
		{"a continuation without a message (5.4)", false, more("x")},
		{"a final continuation without a message (5.4)", false, last("x")},
		{"an empty continuation without a message (5.4)", false, last("")},
		{"a text inside a message (5.4)", true, text("x")},
		{"a binary inside a message (5.4)", true, binaryOf("x")},
		{"a fragmented text inside a message (5.4)", true, first(ws.OpText, "x")},
		{"an empty text inside a message (5.4)", true, text("")},
		{"the largest length there is (5.2)", false, raw("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"a length with only its top bit set (5.2)", false, raw("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00")},
		{"a continuation whose length has its top bit set (5.2)", true, raw("\x00\xff\x80\x00\x00\x00\x00\x01\x00\x00")},
	}
	for _, op := range []ws.OpCode{ws.OpClose, ws.OpPing, ws.OpPong} {
		violations = append(violations,
			violation{fmt.Sprintf("a fragmented %s (5.5)", opName(op)), false, frame{op: op, payload: "x"}},
			violation{fmt.Sprintf("an empty fragmented %s (5.5)", opName(op)), true, frame{op: op}},
			violation{fmt.Sprintf("a %s of 126 bytes (5.5)", opName(op)), false, frame{op: op, fin: true, payload: long}},
			violation{fmt.Sprintf("a %s of 65536 bytes (5.5)", opName(op)), true, raw(frame{op: op, fin: true}.header(65536))},
			violation{fmt.Sprintf("a %s of 125 bytes with a length of 16 bits (5.5)", opName(op)), false, frame{op: op, fin: true, form: in16, payload: long[:125]}})
	}
	for rsv := byte(1); rsv < 8; rsv++ {
		for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary, ws.OpClose, ws.OpPing, ws.OpPong} {
			violations = append(violations, violation{fmt.Sprintf("reserved bits %03b on a %s (5.2)", rsv, opName(op)), false,
				frame{op: op, fin: true, rsv: rsv, payload: "\x03\xe8"}})
		}
		violations = append(violations, violation{fmt.Sprintf("reserved bits %03b on a continuation (5.2)", rsv), true,
			frame{op: ws.OpContinuation, fin: true, rsv: rsv}})
	}
	for _, op := range []ws.OpCode{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		violations = append(violations,
			violation{fmt.Sprintf("the reserved opcode %d (5.2)", op), false, frame{op: op, fin: true, payload: "x"}},
			violation{fmt.Sprintf("the reserved opcode %d, empty (5.2)", op), false, frame{op: op, fin: true}},
			violation{fmt.Sprintf("the reserved opcode %d inside a message (5.2)", op), true, frame{op: op, payload: "x"}})
	}
	for n := range 126 {
		if n < 3 || n > 123 {
			violations = append(violations, violation{fmt.Sprintf("%d bytes with a length of 16 bits (5.2)", n), false,
				frame{op: ws.OpBinary, fin: true, form: in16, payload: long[:n]}})
		}
	}
	for _, n := range []int{0, 1, 125, 126, 127, 65535} {
		violations = append(violations, violation{fmt.Sprintf("%d bytes with a length of 64 bits (5.2)", n), false,
			frame{op: ws.OpText, fin: true, form: in64, payload: strings.Repeat("x", n)}})
	}

	var rules []rule
	for _, v := range violations {
		rules = append(rules, rule{name: v.name, talk: func(p *peer) {
			if v.inside {
				p.sends(first(ws.OpText, "begun"))
				p.wantsFrame(ws.OpText, false, "begun", "a fragment is echoed as it came")
			}
			p.sends(v.sends, text("more"), closing(1000, ""))
			p.wantsFailure(1002, v.name)
		}}, rule{name: v.name + ", in the same segment as valid frames", talk: func(p *peer) {
			var valid []sendable
			valid = append(valid, text("whole"), ping("?"))
			if v.inside {
				valid = append(valid, first(ws.OpText, "begun"))
			}
			p.sends(append(valid, v.sends, text("more"))...)
			p.wantsText("whole", "a message before the violation is echoed first")
			p.wantsPong("?", "a ping before the violation is answered first")
			if v.inside {
				p.wantsFrame(ws.OpText, false, "begun", "a fragment is echoed as it came")
			}
			p.wantsFailure(1002, v.name)
		}})
	}
	converse(t, rules)
}

// A violation is answered as soon as the first invalid byte arrives.
func TestFrameViolationsFailBeforeTheFrameIsComplete(t *testing.T) {
	var rules []rule
	for _, c := range []struct {
		name        string
		sound, last raw
	}{
		{"a reserved bit", "\xc1", "\x80"},
		{"a reserved opcode", "\x83", "\x80"},
		{"an unmasked frame", "\x81", "\x00"},
		{"a continuation without a message", "\x80", "\xff"},
		{"a long ping", "\x89", "\xfe"},
		{"a fragmented ping", "\x09", "\x80"},
		{"a length of 16 bits that is not minimal", "\x82\xfe\x00", "\x7d"},
		{"a length of 64 bits that is not minimal", "\x82\xff\x00\x00\x00\x00\x00\x00\xff", "\xff"},
		{"a length with its top bit set", "\x82\xff\xff\x00\x00\x00\x00\x00\xff", "\xff"},
	} {
		rules = append(rules, rule{name: c.name + " is answered before its frame is complete (7.1.7)", talk: func(p *peer) {
			p.sends(c.sound)
			p.wantsNothing("the first two bytes are checked together, and the length as a whole")
			p.sends(c.last)
			p.wantsFailure(1002, c.name)
		}})
	}
	converse(t, rules)
}

// TestFrameLengths tries payload lengths around the limits of each form of the header.
func TestFrameLengths(t *testing.T) {
	var rules []rule
	for _, n := range []int{0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537} {
		payload := strings.Repeat("0123456789abcdef", n/16+1)[:n]
		rules = append(rules, rule{name: fmt.Sprintf("a text of %d bytes is echoed in the shortest form (5.2)", n), talk: func(p *peer) {
			p.sends(text(payload))
			p.wantsText(payload, "byte for byte")
		}}, rule{name: fmt.Sprintf("a binary of %d bytes is echoed in the shortest form (5.2)", n), talk: func(p *peer) {
			p.sends(binaryOf("\x00\xff"+payload), binaryOf(payload))
			p.wantsFrame(ws.OpBinary, true, "\x00\xff"+payload, "byte for byte")
			p.wantsFrame(ws.OpBinary, true, payload, "the next frame as well")
		}})
	}
	converse(t, rules)
}

// TestPutHeader compares putHeader with ws.WriteHeader, for lengths around each limit.
func TestPutHeader(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, math.MaxInt32} {
		for _, op := range []ws.OpCode{ws.OpContinuation, ws.OpText, ws.OpBinary, ws.OpClose, ws.OpPing, ws.OpPong} {
			for _, fin := range []bool{false, true} {
				var want strings.Builder
				if err := ws.WriteHeader(&want, ws.Header{Fin: fin, OpCode: op, Length: int64(n)}); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, headerSize(n))
				putHeader(got, op, fin, n)
				if string(got) != want.String() {
					t.Errorf("header of %s, %d bytes, fin %t: got % x, want % x", opName(op), n, fin, got, want.String())
				}
			}
		}
	}
}

// isValidDataHeader must not accept a header that checkHeader rejects.
func TestIsValidDataHeaderAgreesWithCheckHeader(t *testing.T) {
	for _, fragmented := range []bool{false, true} {
		n := 0
		for first := range 256 {
			for second := range 256 {
				if !isValidDataHeader(byte(first), byte(second), fragmented) {
					continue
				}
				n++
				if v := checkHeader(byte(first), byte(second), fragmented); v != nil {
					t.Errorf("%02x %02x, fragmented %t: %s", first, second, fragmented, v.Rule)
				}
			}
		}
		// With and without FIN, and of every length: one opcode inside a fragmented message, two
		// outside.
		if want := 2 * 128 * map[bool]int{false: 2, true: 1}[fragmented]; n != want {
			t.Errorf("fragmented %t: got %d valid headers, want %d", fragmented, n, want)
		}
	}
}
