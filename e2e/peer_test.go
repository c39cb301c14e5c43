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

// peer is a wire in a test: what it sends and what it wants is the conversation, and the first want that is
// disappointed ends it.
type peer struct {
	t *testing.T
	*wire
	aside chan error // the outcome of sendAside
}

// dial connects and says nothing.
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

// send writes frames in one go.
func (p *peer) send(frames ...frame) {
	p.t.Helper()
	p.sendRaw(encode(frames...))
}

// sendPieces writes frames in pieces of size octets, each a write, and so with TCP_NODELAY, a segment of its own.
func (p *peer) sendPieces(size int, frames ...frame) {
	p.t.Helper()
	p.check(p.writePieces(size, encode(frames...)))
}

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	p.SetWriteDeadline(time.Now().Add(patience))
	_, err := p.Write(b)
	p.check(err)
}

// sendAside writes frames in pieces while the test reads: a peer that sends more than the sockets hold and does not
// read is held up by the server, as it should be. wantSent joins it.
func (p *peer) sendAside(size int, frames ...frame) {
	p.aside = make(chan error, 1)
	go func() { p.aside <- p.writePieces(size, encode(frames...)) }()
}

func (p *peer) wantSent() {
	p.t.Helper()
	p.check(<-p.aside)
}

func (p *peer) writePieces(size int, b []byte) error {
	for len(b) > 0 {
		n := min(size, len(b))
		p.SetWriteDeadline(time.Now().Add(patience))
		if _, err := p.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// want reads these frames, exactly and in this order.
func (p *peer) want(frames ...frame) {
	p.t.Helper()
	p.check(p.expect(frames...))
}

// wantMessage reads a message in as many fragments as the server likes.
func (p *peer) wantMessage(op byte, message []byte, between ...frame) {
	p.t.Helper()
	p.check(p.expectMessage(op, message, between...))
}

// wantClosed wants the answer to our close, and then the end of TCP.
func (p *peer) wantClosed(answer frame) {
	p.t.Helper()
	p.want(answer)
	p.wantEOF()
}

// closes ends the conversation as it should end.
func (p *peer) closes() {
	p.t.Helper()
	p.send(closing(1000, ""))
	p.wantClosed(closing(1000, ""))
}

// wantFail wants the server to fail the connection: a close with this code, and TCP ended without waiting for an answer.
// If the server had more to read it may end with a reset.
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
		p.t.Fatalf("waiting for a close with %v: %v", codes, err)
	}
	if !slices.ContainsFunc(codes, got.closes) {
		p.t.Fatalf("got %v, want a close with %v", got, codes)
	}
}

// wantEOF wants the server to end TCP, and not with a reset.
func (p *peer) wantEOF() {
	p.t.Helper()
	p.check(p.expectEOF())
}

// wantGone wants the connection to end, with whatever said before it, and then hangs up.
func (p *peer) wantGone() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
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
