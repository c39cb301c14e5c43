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

// A listener verifies, byte for byte, what the server sends on one
// connection: its answer to the request, then the echo of what was said, every
// frame of it and every pong in its place. The server may cut a frame into fragments, and
// must not do anything else with it.
type listener struct {
	status int    // of the answer to the request; 0: not here yet
	head   []byte // the beginning of that answer, or of a frame's header or a close frame

	owed    []speech // to be echoed, in order
	matched int      // payload bytes of the frame in owed[0] that have been echoed
	echoing bool     // a message has been echoed in part, so a continuation must follow

	op   ws.OpCode // of the server's frame
	fin  bool
	left int // bytes of its payload that have not arrived

	received int // bytes, all that came
	messages int // echoed whole
	payload  int // bytes echoed
	closed   int // code of the close frame; 0: none yet
}

// key and accept are the handshake of RFC 6455, section 1.3.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	request = "GET /chaos HTTP/1.1\r\nHost: chaos.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
)

// expect says that the server owes the echo of s.
func (l *listener) expect(s speech) { l.owed = append(l.owed, s) }

// content says whether all has been echoed that was said.
func (l *listener) content() bool {
	l.settle()
	return len(l.owed) == 0 && l.left == 0 && len(l.head) == 0
}

// take takes what has arrived. Its error says how it is not what was owed.
func (l *listener) take(p []byte) error {
	l.received += len(p)
	for len(p) > 0 {
		n, err := l.next(p)
		if err != nil {
			return fmt.Errorf("after %d echoed messages and %d bytes: %w", l.messages, l.received-len(p), err)
		}
		p = p[n:]
	}
	return nil
}

// next takes some of what has arrived.
func (l *listener) next(p []byte) (n int, err error) {
	switch {
	case l.status == 0:
		return l.response(p)
	case l.status != 101:
		return len(p), nil // the body of a refusal
	case l.closed > 0:
		return 0, fmt.Errorf("%d bytes after a close frame", len(p))
	case l.left == 0:
		return l.header(p)
	case l.op == ws.OpClose:
		return l.close(p)
	}
	var want [4096]byte
	n = min(len(p), l.left, len(want))
	f := &l.owed[0].frame
	f.of.render(want[:n], f.of.off+l.matched)
	if !bytes.Equal(p[:n], want[:n]) {
		return 0, fmt.Errorf("wrong byte in the echo of a frame of %d bytes with opcode %d, after %d", f.length, f.op, l.matched)
	}
	l.advance(n)
	return n, nil
}

// response takes the answer to the request, up to its blank line.
func (l *listener) response(p []byte) (int, error) {
	before := len(l.head)
	l.head = append(l.head, p...)
	head, _, found := bytes.Cut(l.head, []byte("\r\n\r\n"))
	if !found {
		return len(p), nil
	}
	status, ok := bytes.CutPrefix(head, []byte("HTTP/1.1 "))
	if !ok || len(status) < 3 {
		return 0, fmt.Errorf("no HTTP: %.100q", head)
	}
	l.status, _ = strconv.Atoi(string(status[:3]))
	if l.status == 101 && !bytes.Contains(head, []byte("\r\nSec-WebSocket-Accept: "+accept)) {
		return 0, fmt.Errorf("wrong accept: %q", head)
	}
	l.head = l.head[:0]
	return len(head) + 4 - before, nil
}

// header takes a frame's header, or a part of it.
func (l *listener) header(p []byte) (int, error) {
	before := len(l.head)
	l.head = append(l.head, p[:min(len(p), 10-before)]...)
	size, length := 2, 0
	if len(l.head) >= 2 {
		length = int(l.head[1])
		switch length {
		case 126:
			size = 4
		case 127:
			size = 10
		}
	}
	if len(l.head) < size {
		return len(l.head) - before, nil
	}
	switch size {
	case 4:
		length = int(binary.BigEndian.Uint16(l.head[2:]))
	case 10:
		length = int(binary.BigEndian.Uint64(l.head[2:]))
	}
	first := l.head[0]
	l.head = l.head[:0]
	if first&0x70 != 0 {
		return 0, fmt.Errorf("a frame with reserved bits: %#x", first)
	}
	return size - before, l.begin(ws.OpCode(first&0xf), first&0x80 != 0, length)
}

// begin sees whether a frame is what the server has to say next.
func (l *listener) begin(op ws.OpCode, fin bool, length int) error {
	l.op, l.fin, l.left = op, fin, length
	if op == ws.OpClose {
		if length == 0 {
			l.closed = int(ws.StatusNoStatusRcvd)
		}
		return nil
	}
	l.settle()
	if len(l.owed) == 0 {
		return fmt.Errorf("a frame of %d bytes with opcode %d, and nothing was owed", length, op)
	}
	f := &l.owed[0].frame
	rest := f.length - l.matched
	want := f.op
	switch {
	case want == ws.OpPing:
		want = ws.OpPong
	case l.echoing:
		want = ws.OpContinuation
	}
	if op != want || length > rest || length < rest && op == ws.OpPong || fin != (f.fin && length == rest) {
		return fmt.Errorf("a frame with opcode %d, FIN %t and %d bytes, where opcode %d, FIN %t and %d bytes were owed",
			op, fin, length, want, f.fin, rest)
	}
	if length == 0 {
		l.advance(0)
	}
	return nil
}

// settle makes owed[0].frame the frame whose echo is the next.
func (l *listener) settle() {
	for len(l.owed) > 0 {
		s := &l.owed[0]
		if s.at < s.frame.size {
			return
		}
		if !s.over() {
			s.next()
			return
		}
		l.owed = l.owed[1:]
	}
}

// advance notes that n bytes more of a frame were echoed rightly.
func (l *listener) advance(n int) {
	s := &l.owed[0]
	l.left -= n
	l.matched += n
	if s.frame.op != ws.OpPing {
		l.payload += n
		l.echoing = l.left > 0 || !l.fin
	}
	if l.left == 0 && l.matched == s.frame.length {
		if s.frame.op != ws.OpPing && s.frame.fin {
			l.messages++
		}
		l.matched = 0
		s.pass(s.frame.size)
	}
}

// close takes the body of a close frame.
func (l *listener) close(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.head = append(l.head, p[:n]...)
	l.left -= n
	if l.left > 0 {
		return n, nil
	}
	if len(l.head) < 2 {
		return 0, errors.New("a close frame with a body of one byte")
	}
	l.closed = int(binary.BigEndian.Uint16(l.head))
	l.head = l.head[:0]
	return n, nil
}

// Who is to notice a lost byte must be trustworthy: what the server's protocol
// answers to a speech is accepted, whole or cut through, and with any of its
// bytes changed, lost or doubled it is not.
func TestListenerNoticesEveryByte(t *testing.T) {
	said := newSpeech(&topic{most: 1000, fragmented: 30, pinged: 30}, 1, 12)
	wire := make([]byte, 1<<20)
	copied := said
	wire = wire[:copied.render(wire, endless)]
	for _, keep := range []bool{true, false} {
		response, reply := echoOf([]byte(request), keep), echoOf(append([]byte(request), wire...), keep)
		if err := listenTo(said, reply); err != nil {
			t.Fatalf("keep %t: a right echo is refused: %v", keep, err)
		}
		for at := len(response); at < len(reply); at++ {
			before, after := reply[:at:at], reply[at+1:]
			for what, wrong := range map[string][]byte{
				"changed": slices.Concat(before, []byte{reply[at] ^ 0x20}, after),
				"lost":    slices.Concat(before, after),
				"doubled": slices.Concat(before, []byte{reply[at]}, reply[at:]),
			} {
				if listenTo(said, wrong) == nil {
					t.Fatalf("keep %t: byte %d of %d is %s, and it is not noticed", keep, at, len(reply), what)
				}
			}
		}
	}
}

func listenTo(said speech, reply []byte) error {
	var l listener
	l.expect(said)
	if err := l.take(reply); err != nil {
		return err
	}
	if !l.content() {
		return errors.New("not all was echoed")
	}
	return nil
}

// echoOf is what the server's protocol answers to input that arrives in pieces
// of a thousand bytes. If it cannot keep any, it cuts frames through.
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
