// Package wire knows the bytes that a WebSocket client and an echo server exchange, and no sockets:
// the opening handshake, the payload set from which messages are sent, and the parser that compares
// replies with it.
package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/gobwas/ws"

	"wsecho/loadtest/stats"
)

// A Parser reads the frames that a server sends on one connection and compares the messages in them
// with those that are awaited. It copies no payload, since a server's are not masked (RFC 6455,
// section 5.1). A message may come in fragments of any length, with control frames between them.
type Parser struct {
	head    [10]byte // the beginning of a header that has not arrived whole
	have    uint8    // bytes of head
	fin     bool     // of the frame
	inFrame bool     // the header has been read, and left bytes of payload are still to come
	inside  bool     // a message has begun
	op      ws.OpCode
	left    int64
	matched int64 // bytes of the message that have come and were right

	Control []byte // the payload of the last control frame; valid until the next Take
}

// AnyMessage is awaited in place of a message whose bytes are unknown: a greeting. The parser skips
// it. It may have any opcode of a message, and at most LongestGreeting bytes.
var AnyMessage = &Message{}

// LongestGreeting is the greatest length of a greeting, in bytes.
const LongestGreeting = 64 << 10

// Between reports whether neither a message nor a frame has begun.
func (r *Parser) Between() bool { return r.have == 0 && !r.inFrame && !r.inside }

// A Step is what [Parser.Take] has found.
type Step uint8

const (
	More     Step = iota // all bytes were taken, and nothing is complete
	Verified             // the awaited message is whole and right
	Pinged               // Control is the payload
	Ponged
	GotClose // Control is the code and the reason
)

// Take reads from p until a message or a control frame is complete, and returns the number of bytes
// it has taken. A message must be the awaited one; nil means that none is awaited. The error is a
// [*stats.Fault], the server's.
func (r *Parser) Take(p []byte, awaited *Message) (n int, s Step, err error) {
	for {
		if !r.inFrame {
			size, whole, err := r.readHeader(p[n:], awaited)
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
		} else if err := r.compare(part, awaited); err != nil {
			return n, More, err
		}
		if r.left > 0 {
			return n, More, nil
		}
		r.inFrame = false
		if s, err := r.endFrame(awaited); err != nil || s != More {
			return n, s, err
		}
	}
}

// readHeader reads a header: usually in one piece, and byte by byte if it comes in parts.
func (r *Parser) readHeader(p []byte, awaited *Message) (n int, whole bool, err error) {
	if r.have == 0 && len(p) >= 2 && len(p) >= headerSize(p[1]) {
		n = headerSize(p[1])
		return n, true, r.beginFrame(p[:n], awaited)
	}
	for n < len(p) {
		r.head[r.have] = p[n]
		r.have++
		n++
		if r.have >= 2 && int(r.have) == headerSize(r.head[1]) {
			r.have = 0
			return n, true, r.beginFrame(r.head[:headerSize(r.head[1])], awaited)
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

// headerSize returns the length of a header without a mask. It depends on the second byte.
func headerSize(second byte) int {
	switch second &^ maskBit {
	case length16:
		return 4
	case length64:
		return 10
	}
	return 2
}

// beginFrame checks a whole header. The frame's payload comes next.
func (r *Parser) beginFrame(head []byte, awaited *Message) error {
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
		return stats.Faultf(stats.Violated, "reserved bits %#x, and no extension was agreed on (RFC 6455, section 5.2)", head[0]&rsvBits)
	case head[1]&maskBit != 0:
		return stats.Faultf(stats.Violated, "a masked frame: a server must not mask (section 5.1)")
	case r.left < 0:
		return stats.Faultf(stats.Violated, "a length of more than 63 bits (section 5.2)")
	case len(head) == 4 && r.left < length16, len(head) == 10 && r.left < 1<<16:
		return stats.Faultf(stats.Violated, "a length of %d in %d bytes: not the fewest (section 5.2)", r.left, len(head)-2)
	case r.op.IsControl():
		r.Control = r.Control[:0]
		return r.checkControl()
	}
	return r.checkData(awaited)
}

func (r *Parser) checkControl() error {
	switch {
	case r.op != ws.OpPing && r.op != ws.OpPong && r.op != ws.OpClose:
		return stats.Faultf(stats.Violated, "opcode %#x is reserved (section 5.2)", r.op)
	case !r.fin:
		return stats.Faultf(stats.Violated, "a fragmented control frame (section 5.5)")
	case r.left > ws.MaxControlFramePayloadSize:
		return stats.Faultf(stats.Violated, "a control frame of %d bytes (section 5.5)", r.left)
	}
	return nil
}

func (r *Parser) checkData(awaited *Message) error {
	switch {
	case r.op > ws.OpBinary:
		return stats.Faultf(stats.Violated, "opcode %#x is reserved (section 5.2)", r.op)
	case r.inside != (r.op == ws.OpContinuation):
		return stats.Faultf(stats.Violated, "opcode %#x: not where a fragmented message was left (section 5.4)", r.op)
	case awaited == nil:
		return stats.Faultf(stats.Unasked, "a frame of %d bytes, opcode %#x, when no reply was awaited", r.left, r.op)
	case awaited == AnyMessage:
		if r.left > LongestGreeting-r.matched {
			return stats.Faultf(stats.Unasked, "a greeting of more than %d bytes", LongestGreeting)
		}
	case !r.inside && r.op != awaited.op:
		return stats.Faultf(stats.Mismatched, "opcode %#x for a message of opcode %#x", r.op, awaited.op)
	case r.left > int64(awaited.size)-r.matched:
		return stats.Faultf(stats.Mismatched, "a reply of %d bytes or more to a message of %d", r.matched+r.left, awaited.size)
	}
	r.inside = true
	return nil
}

// compare compares a part of a payload with the awaited message.
func (r *Parser) compare(part []byte, awaited *Message) error {
	if awaited == AnyMessage {
		r.matched += int64(len(part))
		return nil
	}
	for len(part) > 0 {
		want := awaited.from(int(r.matched))
		want = want[:min(len(want), len(part))]
		if !bytes.Equal(part[:len(want)], want) {
			for i := range want {
				if part[i] != want[i] {
					return stats.Faultf(stats.Mismatched, "byte %d of %d is %#02x, want %#02x", r.matched+int64(i), awaited.size, part[i], want[i])
				}
			}
		}
		part = part[len(want):]
		r.matched += int64(len(want))
	}
	return nil
}

// endFrame returns what is complete with the last byte of a frame.
func (r *Parser) endFrame(awaited *Message) (Step, error) {
	switch {
	case r.op == ws.OpPing:
		return Pinged, nil
	case r.op == ws.OpPong:
		return Ponged, nil
	case r.op == ws.OpClose:
		return GotClose, nil
	case !r.fin:
		return More, nil
	case awaited != AnyMessage && r.matched < int64(awaited.size):
		return More, stats.Faultf(stats.Mismatched, "a reply of %d bytes to a message of %d", r.matched, awaited.size)
	}
	r.matched, r.inside = 0, false
	return Verified, nil
}

// AppendControlFrame appends a masked control frame. The payload has at most 125 bytes.
func AppendControlFrame(p []byte, op ws.OpCode, payload []byte) []byte {
	mask := [4]byte{0x5e, 0xa7, 0x31, 0x0d}
	p = append(p, finBit|byte(op), maskBit|byte(len(payload)))
	p = append(p, mask[:]...)
	p = append(p, payload...)
	ws.Cipher(p[len(p)-len(payload):], mask, 0)
	return p
}
