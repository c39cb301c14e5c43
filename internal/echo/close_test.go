package echo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestClose(t *testing.T) {
	reason123 := strings.Repeat("why? ", 24) + "€"
	rules := []rule{
		{name: "a close without body is answered with one (5.5.1)", talk: func(p *peer) {
			p.sends(closeWith(""))
			p.wantsFrame(ws.OpClose, true, "", "there is no code to send back")
			p.wantsEnd(1005, "closed without a code (7.1.5)")
		}},
		{name: "a close with a body of one byte fails (5.5.1)", talk: func(p *peer) {
			p.sends(closeWith("\x03"))
			p.wantsFailure(1002, "a body begins with a code of two bytes")
		}},
		{name: "a close is answered with its code (5.5.1)", talk: func(p *peer) {
			p.sends(closing(1000, ""))
			p.wantsFrame(ws.OpClose, true, "\x03\xe8", "the code")
			p.wantsEnd(1000, "closed")
		}},
		{name: "a close is answered with its reason (5.5.1)", talk: func(p *peer) {
			p.sends(closing(4321, "adiós"))
			p.wantsFrame(ws.OpClose, true, "\x10\xe1adiós", "code and reason")
			p.wantsEnd(4321, "closed")
		}},
		{name: "a reason may be 123 bytes long (5.5)", talk: func(p *peer) {
			p.sends(closing(3000, reason123))
			p.wantsFrame(ws.OpClose, true, "\x0b\xb8"+reason123, "code and reason")
			p.wantsEnd(3000, "closed")
		}},
		{name: "a close of 126 bytes fails (5.5)", talk: func(p *peer) {
			p.sends(closing(1000, reason123+"!"))
			p.wantsFailure(1002, "the limit of a control frame is 125")
		}},
		{name: "an incomplete close is not answered", talk: func(p *peer) {
			f := closing(1000, "bye")
			p.sends(f.upTo(4))
			p.wantsNothing("the reason is incomplete")
			p.sends(f.from(4))
			p.wantsFrame(ws.OpClose, true, "\x03\xe8bye", "now it is complete")
			p.wantsEnd(1000, "closed")
		}},
		{name: "frames before a close are answered before it (5.5.1)", talk: func(p *peer) {
			p.sends(text("last words"), ping("?"), closing(1001, ""))
			p.wantsText("last words", "first the echo")
			p.wantsPong("?", "then the pong")
			p.wantsFrame(ws.OpClose, true, "\x03\xe9", "then the close")
			p.wantsEnd(1001, "closed")
		}},
		{name: "a close inside a message is answered (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "to be con\xc3"), closing(1000, ""))
			p.wantsFrame(ws.OpText, false, "to be con\xc3", "the fragment")
			p.wantsFrame(ws.OpClose, true, "\x03\xe8", "a message may be left unfinished")
			p.wantsEnd(1000, "closed")
		}},
		{name: "a close in the same segment as the request is answered", fresh: true, talk: func(p *peer) {
			p.sends(sample(), closing(1000, ""))
			p.wantsUpgrade("first the response")
			p.wantsFrame(ws.OpClose, true, "\x03\xe8", "then the close")
			p.wantsEnd(1000, "closed")
		}},
	}
	// Section 5.5.1: "The application MUST NOT send any more data frames after
	// sending a Close frame." The server ignores such frames.
	for _, after := range []struct {
		name  string
		sends sendable
	}{
		{"a second close", closing(1001, "again")},
		{"a ping", ping("?")},
		{"a text", text("more")},
		{"the last fragment", last("more")},
		{"a violation", frame{op: 3, unmasked: true}},
		{"text that is not UTF-8", text("\xff")},
		{"garbage", raw(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 100))},
	} {
		rules = append(rules, rule{name: after.name + " after a close is ignored (5.5.1)", talk: func(p *peer) {
			p.sends(first(ws.OpBinary, "begun"), closing(1000, "bye"), after.sends, ping("?"))
			p.wantsFrame(ws.OpBinary, false, "begun", "the frame before the close")
			p.wantsFrame(ws.OpClose, true, "\x03\xe8bye", "the close")
			p.wantsEnd(1000, "no more output")
		}}, rule{name: after.name + " after a failure is ignored (7.1.7)", talk: func(p *peer) {
			p.sends(text("\xff"), after.sends, ping("?"))
			p.wantsFailure(1007, "the failure")
		}})
	}
	// A reason must be UTF-8, as a text must. It is checked when the frame is complete.
	for _, c := range texts {
		if len(c.text) > 100 {
			continue
		}
		rules = append(rules, rule{name: fmt.Sprintf("a reason of %s, % x (5.5.1)", c.name, abridge(c.text)), talk: func(p *peer) {
			p.sends(closing(1000, c.text))
			if c.invalid >= 0 || !c.whole {
				p.wantsFailure(1007, c.name)
				return
			}
			p.wantsFrame(ws.OpClose, true, "\x03\xe8"+c.text, c.name)
			p.wantsEnd(1000, c.name)
		}})
	}
	converse(t, rules)
}

// closeCodes holds the codes that a close frame may have: RFC 6455, section 7.4.1, and IANA's
// WebSocket Close Code Number Registry as of 2026.
var closeCodes = map[uint16]string{
	1000: "Normal Closure",
	1001: "Going Away",
	1002: "Protocol error",
	1003: "Unsupported Data",
	// 1004 is reserved.
	// 1005 "No Status Rcvd" and 1006 "Abnormal Closure" are never on the wire.
	1007: "Invalid frame payload data",
	1008: "Policy Violation",
	1009: "Message Too Big",
	1010: "Mandatory Ext.",
	1011: "Internal Error",
	1012: "Service Restart",
	1013: "Try Again Later",
	1014: "The server was acting as a gateway or proxy and received an invalid response",
	// 1015 "TLS handshake" is never on the wire.
	// 1016 to 2999 are unassigned.
}

func init() {
	for code := uint16(3000); code < 4000; code++ {
		closeCodes[code] = "registered by libraries, frameworks and applications (7.4.2)"
	}
	for code := uint16(4000); code < 5000; code++ {
		closeCodes[code] = "private use (7.4.2)"
	}
}

// TestCloseCodes tries every code that two bytes can hold, and in every delivery the codes at the
// limits of a range.
func TestCloseCodes(t *testing.T) {
	code := func(code uint16) rule {
		return rule{name: fmt.Sprintf("code %d (7.4)", code), talk: func(p *peer) {
			p.sends(closing(code, "so"))
			if meaning, may := closeCodes[code]; may {
				p.wantsFrame(ws.OpClose, true, closing(code, "so").payload, meaning)
				p.wantsEnd(int(code), meaning)
			} else {
				p.wantsFailure(1002, "this code is not allowed")
			}
		}}
	}
	var known []rule
	for _, c := range []uint16{0, 1, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
		1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 32767, 32768, 65535} {
		known = append(known, code(c))
	}
	converse(t, known)

	for c := range 1 << 16 {
		r := code(uint16(c))
		r.talk(newPeer(t, r, deliveries[0], 1))
		if t.Failed() {
			t.Fatal("code", c)
		}
	}
}

// The close frame for every violation must fit into a control frame and have an allowed code.
func TestViolationsFitCloseFrames(t *testing.T) {
	for _, v := range append([]*Violation{
		errLengthNotMinimal, errLengthTopBit, errCloseBodyTooShort, errCloseCode, errCloseReasonNotUTF8, errTextNotUTF8, errMessageTooLong,
	}, values(violationOfHeaderCheck)...) {
		if _, may := closeCodes[uint16(v.Code)]; !may || 2+len(v.Rule) > ws.MaxControlFramePayloadSize {
			t.Errorf("%d %q is not a valid body of a close frame", v.Code, v.Rule)
		}
	}
}

func values(m map[error]*Violation) (all []*Violation) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
