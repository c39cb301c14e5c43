package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// This file has a WebSocket client that can send invalid frames, split at any byte, and that
// accepts only frames that RFC 6455 lets a server send. It returns errors; peer_test.go turns them
// into test failures.

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

type frame struct {
	op      byte
	payload []byte
	more    bool // FIN=0: fragments follow
	rsv     byte // the three reserved bits; RSV1 is 4

	// Violations of the protocol:
	unmasked bool
	wide     int // bytes of the extended length, 2 or 8, although fewer suffice
}

func text(s string) frame         { return frame{op: opText, payload: []byte(s)} }
func bin(b []byte) frame          { return frame{op: opBinary, payload: b} }
func continuation(s string) frame { return frame{op: opContinuation, payload: []byte(s)} }
func ping(s string) frame         { return frame{op: opPing, payload: []byte(s)} }
func pong(s string) frame         { return frame{op: opPong, payload: []byte(s)} }

func closeFrame(code int, reason string) frame {
	return frame{op: opClose, payload: append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)}
}

// unfinished returns the frame with FIN=0.
func unfinished(f frame) frame { f.more = true; return f }

func reserved(rsv byte, f frame) frame { f.rsv = rsv; return f }

func (f frame) control() bool { return f.op&0x8 != 0 }

// closes reports whether the frame is a close frame with this code and a reason in valid UTF-8.
func (f frame) closes(code int) bool {
	return f.op == opClose && len(f.payload) >= 2 && int(binary.BigEndian.Uint16(f.payload)) == code && utf8.Valid(f.payload[2:])
}

// String formats the frame for failure messages, with long payloads abbreviated.
func (f frame) String() string {
	name := map[byte]string{opContinuation: "continuation", opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}[f.op]
	if name == "" {
		name = fmt.Sprintf("opcode %#x", f.op)
	}
	if f.more {
		name += " (more follows)"
	}
	if f.op == opClose && len(f.payload) >= 2 {
		return fmt.Sprintf("%s %d %q", name, binary.BigEndian.Uint16(f.payload), f.payload[2:])
	}
	if len(f.payload) > 40 {
		return fmt.Sprintf("%s of %d bytes, %q…", name, len(f.payload), f.payload[:20])
	}
	return fmt.Sprintf("%s %q", name, f.payload)
}

// header returns a frame's header with any payload length. mask is nil for an unmasked frame.
func (f frame) header(length uint64, mask []byte) []byte {
	first := f.op | f.rsv<<4
	if !f.more {
		first |= 0x80
	}
	var masked byte
	if mask != nil {
		masked = 0x80
	}
	b := []byte{first}
	switch {
	case f.wide == 8 || length > 0xFFFF:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), length)
	case f.wide == 2 || length > 125:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(length))
	default:
		b = append(b, masked|byte(length))
	}
	return append(b, mask...)
}

// appendTo appends the encoded frame to b, with a random mask.
func (f frame) appendTo(b []byte) []byte {
	if f.unmasked {
		return append(append(b, f.header(uint64(len(f.payload)), nil)...), f.payload...)
	}
	mask := binary.LittleEndian.AppendUint32(nil, rand.Uint32())
	b = append(b, f.header(uint64(len(f.payload)), mask)...)
	at := len(b)
	b = append(b, f.payload...)
	for i := range f.payload {
		b[at+i] ^= mask[i&3]
	}
	return b
}

func encode(frames ...frame) []byte {
	var size int
	for _, f := range frames {
		size += len(f.payload) + 14
	}
	b := make([]byte, 0, size)
	for _, f := range frames {
		b = f.appendTo(b)
	}
	return b
}

// fragments splits a message into frames of size bytes. An empty message is one empty frame.
func fragments(op byte, message []byte, size int) []frame {
	var frames []frame
	for len(message) > size {
		frames = append(frames, frame{op: op, payload: message[:size], more: true})
		op, message = opContinuation, message[size:]
	}
	return append(frames, frame{op: op, payload: message})
}

// wire is a connection to the server.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func connect(addr string) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, waitTimeout)
	if err != nil {
		return nil, err
	}
	return &wire{conn, bufio.NewReader(conn)}, nil
}

// open connects and upgrades. The frames are sent in the same write as the request.
func open(addr string, follows ...frame) (*wire, error) {
	w, err := connect(addr)
	if err != nil {
		return nil, err
	}
	return w.upgrade(follows...)
}

func (w *wire) upgrade(follows ...frame) (*wire, error) {
	if _, err := w.Write(append([]byte(request("GET / HTTP/1.1")), encode(follows...)...)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	response, err := w.response()
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("got status %s, want 101", response.Status)
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// The key and the accept value of the example in RFC 6455, section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// request returns a valid opening handshake with edits: "Name: value" replaces a header, "+Name:
// value" adds one, "-Name" removes one.
func request(line string, edits ...string) string {
	lines := []string{"Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13"}
	for _, edit := range edits {
		if added, ok := strings.CutPrefix(edit, "+"); ok {
			lines = append(lines, added)
			continue
		}
		removed, isRemoval := strings.CutPrefix(edit, "-")
		name, _, _ := strings.Cut(removed, ":")
		for i, l := range lines {
			if !strings.HasPrefix(l, name+":") {
				continue
			}
			if isRemoval {
				lines = append(lines[:i], lines[i+1:]...)
			} else {
				lines[i] = edit
			}
			break
		}
	}
	return line + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func (w *wire) response() (*http.Response, error) {
	w.SetReadDeadline(time.Now().Add(waitTimeout))
	return http.ReadResponse(w.r, nil)
}

// send writes frames in one write.
func (w *wire) send(frames ...frame) error {
	w.SetWriteDeadline(time.Now().Add(waitTimeout))
	_, err := w.Write(encode(frames...))
	return err
}

// read reads one frame. A frame that a server must not send is an error.
func (w *wire) read() (frame, error) {
	w.SetReadDeadline(time.Now().Add(waitTimeout))
	var head [10]byte
	if _, err := io.ReadFull(w.r, head[:2]); err != nil {
		return frame{}, err
	}
	f := frame{op: head[0] & 0xF, rsv: head[0] >> 4 & 7, more: head[0]&0x80 == 0}
	length := uint64(head[1] & 0x7F)
	shortest := uint64(0) // smallest length that needs this encoding
	switch length {
	case 126:
		if _, err := io.ReadFull(w.r, head[2:4]); err != nil {
			return f, err
		}
		length, shortest = uint64(binary.BigEndian.Uint16(head[2:])), 126
	case 127:
		if _, err := io.ReadFull(w.r, head[2:10]); err != nil {
			return f, err
		}
		length, shortest = binary.BigEndian.Uint64(head[2:]), 1<<16
	}
	switch {
	case head[1]&0x80 != 0:
		return f, fmt.Errorf("got a masked frame: %v", f)
	case f.rsv != 0:
		return f, fmt.Errorf("got %v with reserved bits %03b, want none set", f, f.rsv)
	case length < shortest:
		return f, fmt.Errorf("got %v whose length %d is not in its shortest form", f, length)
	case f.control() && (f.more || length > 125):
		return f, fmt.Errorf("got a control frame that is fragmented or longer than 125 bytes: %v of %d bytes", f, length)
	case length > 1<<30:
		return f, fmt.Errorf("got a frame longer than 1 GiB: %v of %d bytes", f, length)
	}
	f.payload = make([]byte, length)
	_, err := io.ReadFull(w.r, f.payload)
	return f, err
}

// expect reads frames, and returns an error unless they are the given ones.
func (w *wire) expect(frames ...frame) error {
	for _, want := range frames {
		got, err := w.read()
		if err != nil {
			return fmt.Errorf("waiting for %v: %w", want, err)
		}
		if got.op != want.op || got.more != want.more || string(got.payload) != string(want.payload) {
			return fmt.Errorf("got %v, want %v%s", got, want, firstDifference(got.payload, want.payload))
		}
	}
	return nil
}

func firstDifference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf(" (byte %d is %#x, want %#x)", i, got[i], want[i])
		}
	}
	return ""
}

// expectMessage reads a message in any number of fragments, with exactly the given control frames
// between them.
func (w *wire) expectMessage(op byte, message []byte, between ...frame) error {
	size := len(message)
	for first := true; ; {
		got, err := w.read()
		if err != nil {
			return fmt.Errorf("%d bytes before the end of the message: %w", len(message), err)
		}
		if got.control() {
			if len(between) == 0 || got.String() != between[0].String() {
				return fmt.Errorf("got %v inside the message, want the control frames %v", got, between)
			}
			between = between[1:]
			continue
		}
		if first != (got.op != opContinuation) || first && got.op != op {
			return fmt.Errorf("got %v inside a message with opcode %d", got, op)
		}
		n := len(got.payload)
		if n > len(message) || string(got.payload) != string(message[:n]) {
			return fmt.Errorf("after %d bytes: got %v%s", size-len(message), got, firstDifference(got.payload, message))
		}
		message, first = message[n:], false
		if !got.more {
			break
		}
	}
	if len(message) > 0 || len(between) > 0 {
		return fmt.Errorf("the message ended %d bytes and %d control frames too early", len(message), len(between))
	}
	return nil
}

// expectEOF waits until the server ends the connection, for at most endsWithin. The client closes
// its side only then.
func (w *wire) expectEOF() error {
	w.SetReadDeadline(time.Now().Add(endsWithin))
	if b, err := w.r.ReadByte(); err == nil {
		return fmt.Errorf("got byte %#x, want the end of the connection", b)
	} else if err != io.EOF {
		return fmt.Errorf("waiting for the end of the connection: %w", err)
	}
	return w.Close()
}

// reset makes Close end the connection with a reset.
func (w *wire) reset() error { return w.Conn.(*net.TCPConn).SetLinger(0) }

// endsWithin is the time in which the server must close TCP: the limit of the Autobahn test suite,
// or three times that under the race detector.
var endsWithin = time.Second

func init() {
	if raceEnabled {
		endsWithin *= 3
	}
}
