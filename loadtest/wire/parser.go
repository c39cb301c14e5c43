// Package wire implements the protocol between a WebSocket client and an echo server, without
// sockets: the opening handshake, the payload set that provides messages, and the parser that
// compares replies with them.
package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/gobwas/ws"

	"wsecho/loadtest/stats"
)

// A Parser reads the frames that a server sends on one connection and compares their messages with
// the expected ones. It copies no message: a server does not mask (RFC 6455, section 5.1), so
// payloads are compared in place. A message may arrive in fragments of any length, with control
// frames between them.
type Parser struct {
	head    [10]byte // the beginning of an incomplete header
	have    uint8    // number of bytes in head
	fin     bool     // the frame's FIN bit
	inFrame bool     // the header is complete, and left bytes of payload have not arrived
	inside  bool     // a message has begun and is incomplete
	op      ws.OpCode
	left    int64
	matched int64 // bytes of the message that have arrived and are right

	Control []byte // the payload of the last control frame; valid until the next Take
}

// AnyMessage is passed to [Parser.Take] to expect a message with unknown bytes: a greeting. The
// message may be text or binary, and at most LongestGreeting bytes long.
var AnyMessage = &Message{}

// LongestGreeting is the maximum length of a greeting in bytes.
const LongestGreeting = 64 << 10

// Between reports whether the next byte begins a new message or control frame.
func (r *Parser) Between() bool { return r.have == 0 && !r.inFrame && !r.inside }

// A Step is a result of [Parser.Take].
type Step uint8

const (
	More     Step = iota // all bytes were read; no message or control frame is complete
	Verified             // the expected message is complete and right
	Pinged               // Control is the payload
	Ponged
	GotClose // Control is the code and the reason
)

// Take reads p up to the end of a message or a control frame, and returns the number of bytes read.
// A message must equal expected; if expected is nil, any message is a fault. The error is a
// [*stats.Fault] of the server.
func (r *Parser) Take(p []byte, expected *Message) (n int, s Step, err error) {
	for {
		if !r.inFrame {
			size, whole, err := r.readHeader(p[n:], expected)
			n += size
			if err != nil || !whole {
				return n, More, err
			}
		}
		part := p[n:min(int64(len(p)), int64(n)+r.left)]
		n += len(part)
		r.left -= int64(len(part))
		if r.op.IsControl() {
			r.Control = append(r.Control, part...)
		} else if err := r.compare(part, expected); err != nil {
			return n, More, err
		}
		if r.left > 0 {
			return n, More, nil
		}
		r.inFrame = false
		if s, err := r.endFrame(expected); err != nil || s != More {
			return n, s, err
		}
	}
}

// readHeader reads a frame header: usually at once, and byte by byte if it arrives in parts.
func (r *Parser) readHeader(p []byte, expected *Message) (n int, whole bool, err error) {
	if r.have == 0 && len(p) >= 2 && len(p) >= headerSize(p[1]) {
		n = headerSize(p[1])
		return n, true, r.beginFrame(p[:n], expected)
	}
	for n < len(p) {
		r.head[r.have] = p[n]
		r.have++
		n++
		if r.have >= 2 && int(r.have) == headerSize(r.head[1]) {
			r.have = 0
			return n, true, r.beginFrame(r.head[:headerSize(r.head[1])], expected)
		}
	}
	return n, false, nil
}

const (
	finBit   = 0x80
	rsvBits  = 0x70
	opBits   = 0x0f
	maskBit  = 0x80
	length16 = 126
	length64 = 127
)

// headerSize returns the length in bytes of an unmasked frame header with the given second byte.
func headerSize(second byte) int {
	switch second &^ maskBit {
	case length16:
		return 4
	case length64:
		return 10
	}
	return 2
}

// beginFrame parses and checks a complete header.
func (r *Parser) beginFrame(head []byte, expected *Message) error {
	r.inFrame = true
	r.fin = head[0]&finBit != 0
	r.op = ws.OpCode(head[0] & opBits)
	r.left = int64(head[1] &^ maskBit)
	switch len(head) {
	case 4:
		r.left = int64(binary.BigEndian.Uint16(head[2:]))
	case 10:
		r.left = int64(binary.BigEndian.Uint64(head[2:]))
	}
	switch {
	case head[0]&rsvBits != 0:
		return stats.Faultf(stats.Violated, "reserved bits %#x are set without an extension (RFC 6455, section 5.2)", head[0]&rsvBits)
	case head[1]&maskBit != 0:
		return stats.Faultf(stats.Violated, "a frame is masked, which a server must not do (RFC 6455, section 5.1)")
	case r.left < 0:
		return stats.Faultf(stats.Violated, "a frame length has more than 63 bits (RFC 6455, section 5.2)")
	case len(head) == 4 && r.left < length16, len(head) == 10 && r.left < 1<<16:
		return stats.Faultf(stats.Violated, "the frame length %d is encoded in %d bytes, not in the fewest (RFC 6455, section 5.2)", r.left, len(head)-2)
	case r.op.IsControl():
		r.Control = r.Control[:0]
		return r.checkControl()
	}
	return r.checkData(expected)
}

func (r *Parser) checkControl() error {
	switch {
	case r.op != ws.OpPing && r.op != ws.OpPong && r.op != ws.OpClose:
		return stats.Faultf(stats.Violated, "opcode %#x is reserved (RFC 6455, section 5.2)", r.op)
	case !r.fin:
		return stats.Faultf(stats.Violated, "a control frame is fragmented (RFC 6455, section 5.5)")
	case r.left > ws.MaxControlFramePayloadSize:
		return stats.Faultf(stats.Violated, "a control frame has %d bytes, the limit is %d (RFC 6455, section 5.5)", r.left, ws.MaxControlFramePayloadSize)
	}
	return nil
}

func (r *Parser) checkData(expected *Message) error {
	switch {
	case r.op > ws.OpBinary:
		return stats.Faultf(stats.Violated, "opcode %#x is reserved (RFC 6455, section 5.2)", r.op)
	case r.inside != (r.op == ws.OpContinuation):
		return stats.Faultf(stats.Violated, "opcode %#x does not continue or begin a message here (RFC 6455, section 5.4)", r.op)
	case expected == nil:
		return stats.Faultf(stats.Unasked, "a frame of %d bytes with opcode %#x arrived when no reply was expected", r.left, r.op)
	case expected == AnyMessage:
		if r.left > LongestGreeting-r.matched {
			return stats.Faultf(stats.Unasked, "a greeting of more than %d bytes", LongestGreeting)
		}
	case !r.inside && r.op != expected.op:
		return stats.Faultf(stats.Mismatched, "opcode %#x in reply to a message of opcode %#x", r.op, expected.op)
	case r.left > int64(expected.size)-r.matched:
		return stats.Faultf(stats.Mismatched, "a reply of %d bytes or more to a message of %d", r.matched+r.left, expected.size)
	}
	r.inside = true
	return nil
}

// compare compares the next part of a payload with the expected message.
func (r *Parser) compare(part []byte, expected *Message) error {
	if expected == AnyMessage {
		r.matched += int64(len(part))
		return nil
	}
	for len(part) > 0 {
		want := expected.from(int(r.matched))
		want = want[:min(len(want), len(part))]
		if !bytes.Equal(part[:len(want)], want) {
			for i := range want {
				if part[i] != want[i] {
					return stats.Faultf(stats.Mismatched, "byte %d of %d is %#02x, want %#02x", r.matched+int64(i), expected.size, part[i], want[i])
				}
			}
		}
		part = part[len(want):]
		r.matched += int64(len(want))
	}
	return nil
}

// endFrame returns the step that the last byte of a frame completes, or More.
func (r *Parser) endFrame(expected *Message) (Step, error) {
	switch {
	case r.op == ws.OpPing:
		return Pinged, nil
	case r.op == ws.OpPong:
		return Ponged, nil
	case r.op == ws.OpClose:
		return GotClose, nil
	case !r.fin:
		return More, nil
	case expected != AnyMessage && r.matched < int64(expected.size):
		return More, stats.Faultf(stats.Mismatched, "a reply of %d bytes to a message of %d", r.matched, expected.size)
	}
	r.matched, r.inside = 0, false
	return Verified, nil
}

// AppendControlFrame appends a masked control frame to p. The payload must have at most 125 bytes
// (RFC 6455, section 5.5).
func AppendControlFrame(p []byte, op ws.OpCode, payload []byte) []byte {
	mask := [4]byte{0x5e, 0xa7, 0x31, 0x0d}
	p = append(p, finBit|byte(op), maskBit|byte(len(payload)))
	p = append(p, mask[:]...)
	p = append(p, payload...)
	ws.Cipher(p[len(p)-len(payload):], mask, 0)
	return p
}
