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

// Every peer echoes what is sent to it, of every length whose header is another, answers a ping, and ends as RFC 6455 has it.
// If one did not, its figures would be of something else.
func TestPeersEcho(t *testing.T) {
	w := workshop{root: repository(t), bin: t.TempDir()}
	for _, s := range servers {
		if s.class == classOurs {
			continue // e2e has it
		}
		t.Run(s.name, func(t *testing.T) {
			if err := s.build(t.Context(), w); errors.Is(err, errAbsent) {
				unavailable(t, "%v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			if version, err := s.version(w); err != nil || version == "" || strings.HasSuffix(version, " ") {
				t.Errorf("its version is %q, %v", version, err)
			}
			p, err := start(t.Context(), w, s, anyCore(t))
			if err != nil {
				t.Fatal(err)
			}
			defer p.stop()
			c := dial(t, p)
			sizes := []int{0, 1, 125, 126, 4096, 65535, 65536, 300_000, 1 << 20}
			if s.name == "nbio" {
				sizes = sizes[1:] // it never tells its handler of an empty message (v1.6.9, Conn.Parse); no load has any
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
			if gone := p.gone(); gone != "" {
				t.Errorf("the server %s", gone)
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

// client speaks to a peer. What it wants it waits for, for some seconds.
type client struct {
	t     *testing.T
	conn  *websocket.Conn
	pongs chan string
}

func dial(t *testing.T, p *running) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dialer := websocket.Dialer{} // no proxy: the environment may name one for everything else
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

// message is one of a length, which is text or is not.
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
		c.t.Fatalf("sending %d bytes: %v", size, err)
	}
}

func (c *client) want(kind, size int) {
	c.t.Helper()
	gotKind, got, err := c.conn.ReadMessage()
	if err != nil {
		c.t.Fatalf("waiting for %d bytes: %v", size, err)
	}
	if gotKind != kind || !bytes.Equal(got, message(kind, size)) {
		c.t.Fatalf("%d bytes of kind %d came back as %d of kind %d, or other ones", size, kind, len(got), gotKind)
	}
}

func (c *client) wantPong() {
	c.t.Helper()
	if err := c.conn.WriteControl(websocket.PingMessage, []byte("are you there?"), time.Now().Add(time.Second)); err != nil {
		c.t.Fatal(err)
	}
	c.send(websocket.TextMessage, 1) // behind the ping, so that its reply is behind the pong
	c.want(websocket.TextMessage, 1)
	select {
	case got := <-c.pongs:
		if got != "are you there?" {
			c.t.Errorf("the pong says %q", got)
		}
	default:
		c.t.Error("there is no pong")
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
		c.t.Errorf("the close frame is answered by: %v", err)
	}
	if n, err := c.conn.NetConn().Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		c.t.Errorf("after the close frame there is %d bytes, %v; want the end", n, err)
	}
}
