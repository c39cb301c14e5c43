package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"
)

// peer is a wire that belongs to a test. The first unexpected event fails the test.
type peer struct {
	t *testing.T
	*wire
	sendErr chan error // result of sendAsync
}

// dial connects without a request.
func (s *server) dial(t *testing.T) *peer {
	t.Helper()
	w, err := connect(s.addr)
	return newPeer(t, w, err)
}

// upgrade opens a WebSocket.
func (s *server) upgrade(t *testing.T) *peer {
	t.Helper()
	w, err := open(s.addr)
	return newPeer(t, w, err)
}

func newPeer(t *testing.T, w *wire, err error) *peer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return &peer{t: t, wire: w}
}

// send writes frames in one write.
func (p *peer) send(frames ...frame) {
	p.t.Helper()
	p.sendRaw(encode(frames...))
}

// sendPieces writes frames in pieces of size bytes. Each piece is one write, and so, with
// TCP_NODELAY, one segment.
func (p *peer) sendPieces(size int, frames ...frame) {
	p.t.Helper()
	p.check(p.writePieces(size, encode(frames...)))
}

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	p.SetWriteDeadline(time.Now().Add(waitTimeout))
	_, err := p.Write(b)
	p.check(err)
}

// sendAsync writes frames in pieces while the test reads: the server stops reading from a peer that
// does not read the echo once the socket buffers are full. wantSent waits for the result.
func (p *peer) sendAsync(size int, frames ...frame) {
	p.sendErr = make(chan error, 1)
	go func() { p.sendErr <- p.writePieces(size, encode(frames...)) }()
}

func (p *peer) wantSent() {
	p.t.Helper()
	p.check(<-p.sendErr)
}

func (p *peer) writePieces(size int, b []byte) error {
	for len(b) > 0 {
		n := min(size, len(b))
		p.SetWriteDeadline(time.Now().Add(waitTimeout))
		if _, err := p.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// want reads exactly the given frames, in this order.
func (p *peer) want(frames ...frame) {
	p.t.Helper()
	p.check(p.expect(frames...))
}

// wantMessage reads a message in any number of fragments.
func (p *peer) wantMessage(op byte, message []byte, between ...frame) {
	p.t.Helper()
	p.check(p.expectMessage(op, message, between...))
}

// wantClosed waits for the answer to the peer's close frame, and then for the end of TCP.
func (p *peer) wantClosed(answer frame) {
	p.t.Helper()
	p.want(answer)
	p.wantEOF()
}

// closes runs the closing handshake with code 1000.
func (p *peer) closes() {
	p.t.Helper()
	p.send(closeFrame(1000, ""))
	p.wantClosed(closeFrame(1000, ""))
}

// wantFail waits for the server to fail the connection: a close frame with this code, and the end
// of TCP without waiting for an answer. The end may be a reset if the server had unread input.
func (p *peer) wantFail(code int) {
	p.t.Helper()
	p.wantFailWith(code)
	if err := p.expectEOF(); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Fatal(err)
	}
}

func (p *peer) wantFailWith(codes ...int) {
	p.t.Helper()
	got, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for a close frame with code %v: %v", codes, err)
	}
	if !slices.ContainsFunc(codes, got.closes) {
		p.t.Fatalf("got %v, want a close frame with code %v", got, codes)
	}
}

// wantEOF waits for the server's FIN. A reset is a failure.
func (p *peer) wantEOF() {
	p.t.Helper()
	p.check(p.expectEOF())
}

// wantDisconnect waits for the end of the connection, whatever the server sends before, and then
// closes it.
func (p *peer) wantDisconnect() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(waitTimeout))
	if _, err := io.Copy(io.Discard, p.r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Fatal(fmt.Errorf("waiting for the connection to end: %w", err))
	}
	p.Close()
}

func (p *peer) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}
