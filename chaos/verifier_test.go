package chaos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"wsecho/internal/echo"
)

// A verifier checks, byte for byte, what the server sends on one connection: the response to the
// request, then the echo of each frame and the pong for each ping, in order. The server may split a
// frame into fragments; any other difference is an error.
type verifier struct {
	status int    // status code of the response; 0: not received yet
	head   []byte // received part of an incomplete response, frame header or close frame

	expected []stream // whose echo is expected, in order
	matched  int      // echoed payload bytes of the frame of expected[0]
	echoing  bool     // a message has been echoed partly, so a continuation frame must follow

	op        ws.OpCode // of the server's current frame
	fin       bool
	remaining int // payload bytes of that frame not received yet

	received int // bytes received, handshake and headers included
	messages int // completely echoed messages
	payload  int // echoed payload bytes
	closed   int // code of the close frame; 0: none yet
}

// key and accept are the example of RFC 6455, section 1.3.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	request = "GET /chaos HTTP/1.1\r\nHost: chaos.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
)

// expect adds a stream whose echo the server must send.
func (v *verifier) expect(s stream) { v.expected = append(v.expected, s) }

// complete reports whether everything expected has been echoed.
func (v *verifier) complete() bool {
	v.nextExpected()
	return len(v.expected) == 0 && v.remaining == 0 && len(v.head) == 0
}

// verify verifies received bytes. Its error describes the first difference from what was expected.
func (v *verifier) verify(p []byte) error {
	v.received += len(p)
	for len(p) > 0 {
		n, err := v.next(p)
		if err != nil {
			return fmt.Errorf("after %d echoed messages and %d received bytes: %w", v.messages, v.received-len(p), err)
		}
		p = p[n:]
	}
	return nil
}

// next verifies the first n of the received bytes.
func (v *verifier) next(p []byte) (n int, err error) {
	switch {
	case v.status == 0:
		return v.response(p)
	case v.status != 101:
		return len(p), nil // the body of a refusal
	case v.closed > 0:
		return 0, fmt.Errorf("got %d bytes after a close frame", len(p))
	case v.remaining == 0:
		return v.header(p)
	case v.op == ws.OpClose:
		return v.close(p)
	}
	var want [4096]byte
	n = min(len(p), v.remaining, len(want))
	f := &v.expected[0].frame
	f.of.render(want[:n], f.of.off+v.matched)
	if !bytes.Equal(p[:n], want[:n]) {
		return 0, fmt.Errorf("wrong byte in the echo of a frame of %d bytes with opcode %d, after %d correct bytes", f.length, f.op, v.matched)
	}
	v.advance(n)
	return n, nil
}

// response parses the response to the request, up to its blank line.
func (v *verifier) response(p []byte) (int, error) {
	before := len(v.head)
	v.head = append(v.head, p...)
	head, _, found := bytes.Cut(v.head, []byte("\r\n\r\n"))
	if !found {
		return len(p), nil
	}
	status, ok := bytes.CutPrefix(head, []byte("HTTP/1.1 "))
	if !ok || len(status) < 3 {
		return 0, fmt.Errorf("response is not HTTP/1.1: %.100q", head)
	}
	v.status, _ = strconv.Atoi(string(status[:3]))
	if v.status == 101 && !bytes.Contains(head, []byte("\r\nSec-WebSocket-Accept: "+accept)) {
		return 0, fmt.Errorf("response without Sec-WebSocket-Accept: %s: %q", accept, head)
	}
	v.head = v.head[:0]
	return len(head) + 4 - before, nil
}

// header parses a frame's header, or a part of it.
func (v *verifier) header(p []byte) (int, error) {
	before := len(v.head)
	v.head = append(v.head, p[:min(len(p), 10-before)]...)
	size, length := 2, 0
	if len(v.head) >= 2 {
		length = int(v.head[1])
		switch length {
		case 126:
			size = 4
		case 127:
			size = 10
		}
	}
	if len(v.head) < size {
		return len(v.head) - before, nil
	}
	switch size {
	case 4:
		length = int(binary.BigEndian.Uint16(v.head[2:]))
	case 10:
		length = int(binary.BigEndian.Uint64(v.head[2:]))
	}
	first := v.head[0]
	v.head = v.head[:0]
	if first&0x70 != 0 {
		return 0, fmt.Errorf("got a frame with reserved bits set, first byte %#x", first)
	}
	return size - before, v.begin(ws.OpCode(first&0xf), first&0x80 != 0, length)
}

// begin checks that a frame is the one that the server must send next.
func (v *verifier) begin(op ws.OpCode, fin bool, length int) error {
	v.op, v.fin, v.remaining = op, fin, length
	if op == ws.OpClose {
		if length == 0 {
			v.closed = int(ws.StatusNoStatusRcvd)
		}
		return nil
	}
	v.nextExpected()
	if len(v.expected) == 0 {
		return fmt.Errorf("got a frame of %d bytes with opcode %d, want none", length, op)
	}
	f := &v.expected[0].frame
	rest := f.length - v.matched
	want := f.op
	switch {
	case want == ws.OpPing:
		want = ws.OpPong
	case v.echoing:
		want = ws.OpContinuation
	}
	if op != want || length > rest || length < rest && op == ws.OpPong || fin != (f.fin && length == rest) {
		return fmt.Errorf("got a frame with opcode %d, FIN %t and %d bytes, want opcode %d, FIN %t and %d bytes",
			op, fin, length, want, f.fin, rest)
	}
	if length == 0 {
		v.advance(0)
	}
	return nil
}

// nextExpected makes expected[0].frame the frame whose echo must arrive next.
func (v *verifier) nextExpected() {
	for len(v.expected) > 0 {
		s := &v.expected[0]
		if s.at < s.frame.size {
			return
		}
		if !s.done() {
			s.next()
			return
		}
		v.expected = v.expected[1:]
	}
}

// advance records that n further bytes of a frame were echoed correctly.
func (v *verifier) advance(n int) {
	s := &v.expected[0]
	v.remaining -= n
	v.matched += n
	if s.frame.op != ws.OpPing {
		v.payload += n
		v.echoing = v.remaining > 0 || !v.fin
	}
	if v.remaining == 0 && v.matched == s.frame.length {
		if s.frame.op != ws.OpPing && s.frame.fin {
			v.messages++
		}
		v.matched = 0
		s.advance(s.frame.size)
	}
}

// close parses the body of a close frame.
func (v *verifier) close(p []byte) (int, error) {
	n := min(len(p), v.remaining)
	v.head = append(v.head, p[:n]...)
	v.remaining -= n
	if v.remaining > 0 {
		return n, nil
	}
	if len(v.head) < 2 {
		return 0, errors.New("got a close frame with a body of one byte")
	}
	v.closed = int(binary.BigEndian.Uint16(v.head))
	v.head = v.head[:0]
	return n, nil
}

// The verifier accepts what the server's protocol code answers to a stream, whether frames are held
// or split, and rejects it with any one byte changed, lost or duplicated.
func TestVerifierRejectsAnyWrongByte(t *testing.T) {
	sent := newStream(&traffic{maxSize: 1000, fragmented: 30, pinged: 30}, 1, 12)
	wire := make([]byte, 1<<20)
	copied := sent
	wire = wire[:copied.render(wire, endless)]
	for _, keep := range []bool{true, false} {
		response, reply := echoOf([]byte(request), keep), echoOf(append([]byte(request), wire...), keep)
		if err := verifyAll(sent, reply); err != nil {
			t.Fatalf("keep %t: correct echo rejected: %v", keep, err)
		}
		for at := len(response); at < len(reply); at++ {
			before, after := reply[:at:at], reply[at+1:]
			for what, wrong := range map[string][]byte{
				"changed":    slices.Concat(before, []byte{reply[at] ^ 0x20}, after),
				"lost":       slices.Concat(before, after),
				"duplicated": slices.Concat(before, []byte{reply[at]}, reply[at:]),
			} {
				if verifyAll(sent, wrong) == nil {
					t.Fatalf("keep %t: accepted an echo with byte %d of %d %s", keep, at, len(reply), what)
				}
			}
		}
	}
}

func verifyAll(sent stream, reply []byte) error {
	var v verifier
	v.expect(sent)
	if err := v.verify(reply); err != nil {
		return err
	}
	if !v.complete() {
		return errors.New("the echo is incomplete")
	}
	return nil
}

// echoOf returns what the server's protocol code answers to input that arrives in pieces of 1,000
// bytes. Without keep it cannot hold unfinished frames, and echoes them as fragments.
func echoOf(input []byte, keep bool) (output []byte) {
	e := echo.New(echo.Config{MaxHeader: 4096, MaxFrame: 1 << 15, Now: time.Now})
	var state echo.State
	b := echo.Buffer{Bytes: make([]byte, 1<<16)}
	var rest []byte
	for piece := range slices.Chunk(input, 1000) {
		b.Start, b.Seen = echo.Headroom, len(rest)
		b.End = b.Start + copy(b.Bytes[b.Start:], append(rest, piece...))
		e.Receive(&state, &b, keep)
		output = append(output, b.Bytes[b.Out:b.OutEnd]...)
		rest = bytes.Clone(b.Bytes[b.Start:b.End])
	}
	return output
}
