// Package testpeer provides the client's end of a connection for tests, over a blocking socket. A
// test reads like a conversation: the peer sends bytes, and wants an answer. A missing answer ends
// the test.
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

// The opening handshake of RFC 6455, section 1.3, and a text message with its echo.
const (
	Key    = "dGhlIHNhbXBsZSBub25jZQ=="
	Accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	Request = "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + Key + "\r\n\r\n"

	MaskedHello = "\x81\x85\x00\x00\x00\x00hello"
	Hello       = "\x81\x05hello"
)

// timeout is the time limit of a whole conversation. It is long, so that a busy machine meets it.
const timeout = 10 * time.Second

// A Peer is the client of one connection.
type Peer struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// Dial connects to a server. The connection is closed at the end of the test.
func Dial(t testing.TB, network, addr string) *Peer {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, c)
}

// New returns a peer that uses the connection c. It closes c at the end of the test.
func New(t testing.TB, c net.Conn) *Peer {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
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

// Sends sends all bytes.
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

// WantsEnd waits until the server closes the TCP connection, without sending more bytes, and closes
// it as well.
func (p *Peer) WantsEnd() {
	p.t.Helper()
	defer p.Close()
	if more, err := io.ReadAll(p.r); err != nil || len(more) > 0 {
		p.t.Fatalf("got %q, %v; want the end of the connection", more, err)
	}
}

// Response waits for an HTTP response, and returns it with its body.
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
		p.t.Fatalf("got %s, %v, %q; want 101 with Sec-WebSocket-Accept %s", r.Status, r.Header, body, Accept)
	}
	return r
}

// WantsRefusal waits for a response with this status whose body contains the reason.
func (p *Peer) WantsRefusal(status int, reason string) {
	p.t.Helper()
	r, body := p.Response()
	if r.StatusCode != status || !strings.Contains(body, reason) {
		p.t.Errorf("got %s, %q; want %d with a body that contains %q", r.Status, body, status, reason)
	}
}
