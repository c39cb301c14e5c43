// Package testpeer is for tests: the other end of a connection to a server, over a blocking socket.
// A test reads as a conversation: the peer sends, and wants an answer. The first answer that does not
// come ends the test.
package testpeer

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The opening handshake of RFC 6455, section 1.3, a text message and its echo, and a close frame.
const (
	Key    = "dGhlIHNhbXBsZSBub25jZQ=="
	Accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	Request = "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + Key + "\r\n\r\n"

	MaskedHello = "\x81\x85\x00\x00\x00\x00hello"
	Hello       = "\x81\x05hello"
)

// patience is longer than anything takes that happens at all.
const patience = 10 * time.Second

// A Peer is one connection.
type Peer struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// Dial connects. The test closes the connection at its end.
func Dial(t testing.TB, network, addr string) *Peer {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, c)
}

// New makes a peer of a connection, which it closes at the end of the test.
func New(t testing.TB, c net.Conn) *Peer {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &Peer{c, t, bufio.NewReaderSize(c, 256)}
}

// Upgrades completes the opening handshake.
func (p *Peer) Upgrades() *Peer {
	p.t.Helper()
	p.Sends(Request)
	p.WantsUpgrade()
	return p
}

// Sends sends all of it.
func (p *Peer) Sends(bytes string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, bytes); err != nil {
		p.t.Fatal(err)
	}
}

// Wants waits for exactly these bytes.
func (p *Peer) Wants(bytes, why string) {
	p.t.Helper()
	got := make([]byte, len(bytes))
	if n, err := io.ReadFull(p.r, got); err != nil || string(got) != bytes {
		p.t.Fatalf("%s: got %q, %v; want %q", why, got[:n], err, bytes)
	}
}

// WantsEnd waits for the server to end TCP without saying anything more, and ends it too.
func (p *Peer) WantsEnd() {
	p.t.Helper()
	defer p.Close()
	if rest, err := io.ReadAll(p.r); err != nil || len(rest) > 0 {
		p.t.Fatalf("want the end of the connection, got %q, %v", rest, err)
	}
}

// Response waits for the answer to a request, with its body.
func (p *Peer) Response() (*http.Response, string) {
	p.t.Helper()
	r, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatal("no response: ", err)
	}
	if r.StatusCode == http.StatusSwitchingProtocols {
		return r, ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r, string(body)
}

// WantsUpgrade waits for the 101 that answers Request.
func (p *Peer) WantsUpgrade() *http.Response {
	p.t.Helper()
	r, body := p.Response()
	if r.StatusCode != http.StatusSwitchingProtocols || r.Header.Get("Sec-WebSocket-Accept") != Accept {
		p.t.Fatalf("%s, %v, %q", r.Status, r.Header, body)
	}
	return r
}

// WantsRefusal waits for a response with this status whose body contains the reason.
func (p *Peer) WantsRefusal(status int, reason string) {
	p.t.Helper()
	r, body := p.Response()
	if r.StatusCode != status || !strings.Contains(body, reason) {
		p.t.Errorf("refused with %s, %q; want %d, %q", r.Status, body, status, reason)
	}
}
