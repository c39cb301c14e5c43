package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Every peer echoes messages of every header form, answers a ping, and completes the close
// handshake (RFC 6455). Otherwise its figures would not be comparable.
func TestPeersEcho(t *testing.T) {
	dirs := buildDirs{root: repository(t), peers: t.TempDir()}
	for _, s := range servers {
		if s.class == classOurs {
			continue // tested in e2e
		}
		t.Run(s.name, func(t *testing.T) {
			if err := s.build(t.Context(), dirs); errors.Is(err, errAbsent) {
				unavailable(t, "%v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			if version, err := s.version(dirs); err != nil || version == "" || strings.HasSuffix(version, " ") {
				t.Errorf("version: got %q, %v; want the modules' versions", version, err)
			}
			p, err := start(t.Context(), dirs, s, anyCore(t))
			if err != nil {
				t.Fatal(err)
			}
			defer p.stop()
			c := dial(t, p)
			sizes := []int{0, 1, 125, 126, 4096, 65535, 65536, 300_000, 1 << 20}
			if s.name == "nbio" {
				sizes = sizes[1:] // nbio v1.6.9 does not pass empty messages to its handler (Conn.Parse); no scenario sends any
			}
			for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
				for _, size := range sizes {
					c.send(kind, size)
					c.want(kind, size)
				}
				for range 16 {
					c.send(kind, 128)
				}
				for range 16 {
					c.want(kind, 128)
				}
			}
			c.wantPong()
			c.wantClose()
			if exit := p.exitText(); exit != "" {
				t.Errorf("the server %s", exit)
			}
		})
	}
}

func anyCore(t *testing.T) int {
	t.Helper()
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	return two.server
}

// client is a WebSocket client of a peer. Its want methods wait up to 30 s after dial.
type client struct {
	t     *testing.T
	conn  *websocket.Conn
	pongs chan string
}

func dial(t *testing.T, p *running) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dialer := websocket.Dialer{} // without the proxy that the environment may name
	conn, _, err := dialer.DialContext(ctx, "ws://"+p.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t, conn, make(chan string, 1)}
	conn.SetPongHandler(func(text string) error { c.pongs <- text; return nil })
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	return c
}

// message returns a message of the given size, which is valid UTF-8 if kind is text.
func message(kind, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 31 >> 3)
		if kind == websocket.TextMessage {
			p[i] = 'a' + p[i]%26
		}
	}
	if kind == websocket.TextMessage && size > 8 {
		copy(p[2:], "grüß")
	}
	return p
}

func (c *client) send(kind, size int) {
	c.t.Helper()
	if err := c.conn.WriteMessage(kind, message(kind, size)); err != nil {
		c.t.Fatalf("send %d bytes: %v", size, err)
	}
}

func (c *client) want(kind, size int) {
	c.t.Helper()
	gotKind, got, err := c.conn.ReadMessage()
	if err != nil {
		c.t.Fatalf("receive %d bytes: %v", size, err)
	}
	if gotKind != kind || !bytes.Equal(got, message(kind, size)) {
		c.t.Fatalf("echo: got %d bytes of kind %d, want the %d bytes of kind %d that were sent", len(got), gotKind, size, kind)
	}
}

func (c *client) wantPong() {
	c.t.Helper()
	if err := c.conn.WriteControl(websocket.PingMessage, []byte("are you there?"), time.Now().Add(time.Second)); err != nil {
		c.t.Fatal(err)
	}
	c.send(websocket.TextMessage, 1) // its echo arrives after the pong
	c.want(websocket.TextMessage, 1)
	select {
	case got := <-c.pongs:
		if got != "are you there?" {
			c.t.Errorf("pong payload: got %q, want the ping's", got)
		}
	default:
		c.t.Error("no pong received before the echo")
	}
}

func (c *client) wantClose() {
	c.t.Helper()
	text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := c.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)); err != nil {
		c.t.Fatal(err)
	}
	_, _, err := c.conn.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		c.t.Errorf("reply to the close frame: got %v, want a close frame with code 1000", err)
	}
	if n, err := c.conn.NetConn().Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		c.t.Errorf("after the close frame: got %d bytes, %v; want the end of the connection", n, err)
	}
}
