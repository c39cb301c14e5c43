package main

import (
	"bytes"
	"encoding/binary"

	"github.com/gobwas/ws"
)

// A reply is where a connection is within what the server sends: a parser of frames that
// compares as it goes, and knows nothing of sockets. Payloads are not copied, for a server's
// are not masked (RFC 6455, section 5.1): what has arrived is compared where it lies. A message may come
// in fragments of any length, and control frames between them.
type reply struct {
	head    [10]byte // the beginning of a header that has not arrived whole
	have    uint8    // bytes of it
	fin     bool     // of the frame
	inFrame bool     // the header has been read, and left bytes of payload are to come
	inside  bool     // a message has begun
	op      ws.OpCode
	left    int64
	matched int64  // bytes of the message that have come, and were right
	control []byte // payload of a control frame
}

// anyMessage is awaited in place of a message whose bytes are not known: a greeting. It is read
// over, and may have any opcode of a message and at most longestGreeting bytes.
var anyMessage = &message{}

const longestGreeting = 64 << 10

// between says whether no message has begun, nor a frame.
func (r *reply) between() bool { return r.have == 0 && !r.inFrame && !r.inside }

// step is what take has come to.
type step uint8

const (
	more     step = iota // all was taken, and nothing is complete
	verified             // the awaited message is whole, and right
	pinged               // control has the payload
	ponged
	toldClose // control has code and reason
)

// take reads from p until a message or a control frame is complete, and says how much it took.
// What it reads must be the awaited message; nil is none. An error is a
// fault of the server's.
func (r *reply) take(p []byte, awaited *message) (n int, s step, err error) {
	for {
		if !r.inFrame {
			size, whole, err := r.readHeader(p[n:], awaited)
			n += size
			if err != nil || !whole {
				return n, more, err
			}
		}
		part := p[n:min(int64(len(p)), int64(n)+r.left)]
		n += len(part)
		r.left -= int64(len(part))
		if r.op.IsControl() {
			r.control = append(r.control, part...)
		} else if err := r.compare(part, awaited); err != nil {
			return n, more, err
		}
		if r.left > 0 {
			return n, more, nil
		}
		r.inFrame = false
		if s, err := r.endFrame(awaited); err != nil || s != more {
			return n, s, err
		}
	}
}

// readHeader reads a header, as a rule from where it lies, and byte by byte if it comes in parts.
func (r *reply) readHeader(p []byte, awaited *message) (n int, whole bool, err error) {
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

// headerSize is that of a header without a mask, by its second byte.
func headerSize(second byte) int {
	switch second &^ maskBit {
	case length16:
		return 4
	case length64:
		return 10
	}
	return 2
}

// beginFrame checks a header.
func (r *reply) beginFrame(head []byte, awaited *message) error {
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
		return faultf(violated, "reserved bits %#x, and no extension was agreed on (RFC 6455, section 5.2)", head[0]&rsvBits)
	case head[1]&maskBit != 0:
		return faultf(violated, "a masked frame: a server must not mask (section 5.1)")
	case r.left < 0:
		return faultf(violated, "a length of more than 63 bits (section 5.2)")
	case len(head) == 4 && r.left < length16, len(head) == 10 && r.left < 1<<16:
		return faultf(violated, "a length of %d in %d bytes: not the fewest (section 5.2)", r.left, len(head)-2)
	case r.op.IsControl():
		r.control = r.control[:0]
		return r.checkControl()
	}
	return r.checkData(awaited)
}

func (r *reply) checkControl() error {
	switch {
	case r.op != ws.OpPing && r.op != ws.OpPong && r.op != ws.OpClose:
		return faultf(violated, "opcode %#x is reserved (section 5.2)", r.op)
	case !r.fin:
		return faultf(violated, "a fragmented control frame (section 5.5)")
	case r.left > ws.MaxControlFramePayloadSize:
		return faultf(violated, "a control frame of %d bytes (section 5.5)", r.left)
	}
	return nil
}

func (r *reply) checkData(awaited *message) error {
	switch {
	case r.op > ws.OpBinary:
		return faultf(violated, "opcode %#x is reserved (section 5.2)", r.op)
	case r.inside != (r.op == ws.OpContinuation):
		return faultf(violated, "opcode %#x: not where a fragmented message was left (section 5.4)", r.op)
	case awaited == nil:
		return faultf(unasked, "a frame of %d bytes, opcode %#x, when no reply was awaited", r.left, r.op)
	case awaited == anyMessage:
		if r.left > longestGreeting-r.matched {
			return faultf(unasked, "a greeting of more than %d bytes", longestGreeting)
		}
	case !r.inside && r.op != awaited.op:
		return faultf(mismatched, "opcode %#x for a message of opcode %#x", r.op, awaited.op)
	case r.left > int64(awaited.size)-r.matched:
		return faultf(mismatched, "a reply of %d bytes or more to a message of %d", r.matched+r.left, awaited.size)
	}
	r.inside = true
	return nil
}

// compare compares a part of a payload.
func (r *reply) compare(part []byte, awaited *message) error {
	if awaited == anyMessage {
		r.matched += int64(len(part))
		return nil
	}
	for len(part) > 0 {
		want := awaited.from(int(r.matched))
		want = want[:min(len(want), len(part))]
		if !bytes.Equal(part[:len(want)], want) {
			for i := range want {
				if part[i] != want[i] {
					return faultf(mismatched, "byte %d of %d is %#02x, want %#02x", r.matched+int64(i), awaited.size, part[i], want[i])
				}
			}
		}
		part = part[len(want):]
		r.matched += int64(len(want))
	}
	return nil
}

func (r *reply) endFrame(awaited *message) (step, error) {
	switch {
	case r.op == ws.OpPing:
		return pinged, nil
	case r.op == ws.OpPong:
		return ponged, nil
	case r.op == ws.OpClose:
		return toldClose, nil
	case !r.fin:
		return more, nil
	case awaited != anyMessage && r.matched < int64(awaited.size):
		return more, faultf(mismatched, "a reply of %d bytes to a message of %d", r.matched, awaited.size)
	}
	r.matched, r.inside = 0, false
	return verified, nil
}
