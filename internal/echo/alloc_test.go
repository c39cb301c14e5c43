//go:build !race

package echo

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/gobwas/ws"
)

// These tests do not run under the race detector: sync.Pool drops items at random there, so the
// allocation counts vary.

// bufferFor returns a buffer for an input of n bytes.
func bufferFor(n int) []byte { return make([]byte, Headroom+n+Tailroom) }

func TestMessagesDoNotAllocate(t *testing.T) {
	// The error of ws.CheckHeader is a string in an interface, which is one allocation, in the last
	// call for a connection.
	const violation = "a violation that ws.CheckHeader finds"
	long := strings.Repeat("0123456789abcdef", 4<<10)
	for _, c := range []struct {
		name  string
		sends []sendable
	}{
		{"a small text", []sendable{text("Hello")}},
		{"a small binary", []sendable{binaryOf("Hello")}},
		{"a text of 64 KiB", []sendable{text(long)}},
		{"a text of 64 KiB that is not ASCII", []sendable{text(strings.Repeat("€uro", 10<<10))}},
		{"a fragmented text", []sendable{first(ws.OpText, "H\xc3"), more("\xa9l"), last("lo")}},
		{"a ping", []sendable{ping("Hello")}},
		{"a pong", []sendable{pong("Hello")}},
		{"sixteen at once", []sendable{raw(strings.Repeat(string(text("Hello").wire()), 16))}},
		{"a close", []sendable{closing(1000, "bye")}},
		{"a violation that this package finds", []sendable{frame{op: ws.OpText, fin: true, form: in16}}},
		{violation, []sendable{frame{op: 3, fin: true}}},
		{"text that is not UTF-8", []sendable{text("\xff")}},
	} {
		var in []byte
		for _, s := range c.sends {
			in = append(in, s.wire()...)
		}
		e, mem := New(usual()), bufferFor(len(in))
		for _, keep := range []bool{true, false} {
			for _, step := range []int{len(in), (len(in) + 2) / 3} { // complete, and in parts as a frame that is kept or cut through
				allocs := testing.AllocsPerRun(100, func() {
					s := Upgraded()
					b := Buffer{Bytes: mem, Start: Headroom, End: Headroom}
					for from := 0; from < len(in) && s.phase == Open; from += step {
						rest := copy(mem[Headroom:], mem[b.Start:b.End])
						to := min(len(in), from+step)
						copy(mem[Headroom+rest:], in[from:to])
						b.Start, b.End, b.Seen = Headroom, Headroom+rest+to-from, rest
						e.Receive(&s, &b, keep)
					}
				})
				want := 0.0
				if c.name == violation {
					want = 1
				}
				if allocs != want {
					t.Errorf("%s, %d bytes at a time, keep %t: %v allocations, want %v", c.name, step, keep, allocs, want)
				}
			}
		}
	}
}

func TestUpgradesAllocateAtMostTwice(t *testing.T) {
	for _, c := range []struct {
		name  string
		sends opening
		want  float64
	}{
		{"the sample request", sample(), 1},
		{"a browser's", sample().with("Connection: keep-alive, Upgrade").and("Origin: http://example.com",
			"User-Agent: "+strings.Repeat("x", 200), "Cookie: "+strings.Repeat("y", 500), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), 1},
		{"one that offers a subprotocol", sample().and("Sec-WebSocket-Protocol: chat"), 2},
		{"one that offers many", sample().and("Sec-WebSocket-Protocol: a, b, c, d, e, f, g, h", "Sec-WebSocket-Protocol: i, j, k, l, m, n, o, p"), 2},
		{"one with everything that has a grammar", asking("GET http://[2001:db8::1]:80/a%20b HTTP/1.1").with("Host: [2001:db8::1]:80", "Upgrade: h2c/1, websocket").and(
			"Sec-WebSocket-Extensions: a; b=\"c\\d\"; e", "Sec-WebSocket-Extensions: f", "Origin: https://a.example.com"), 1},
		{"one that is malformed", sample().and("Sec-WebSocket-Extensions: a;"), 0},
		{"one that is refused", sample().without("Upgrade"), 1},
		{"one that asks for the page", browser("GET / HTTP/1.1").and(`If-None-Match: "a", W/"b"`), 0},
	} {
		in := c.sends.wire()
		cfg := usual()
		cfg.AnyOrigin, cfg.Origins = false, origins(t, "example.com", "*.example.com:443")
		withPage(&cfg)
		e, mem := New(cfg), bufferFor(MaxPage)
		if got := testing.AllocsPerRun(100, func() {
			var s State
			b := Buffer{Bytes: mem, Start: Headroom, End: Headroom + copy(mem[Headroom:], in)}
			e.Receive(&s, &b, true)
			if s.phase == Handshake {
				t.Fatal("the request is incomplete")
			}
		}); got > c.want {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.want)
		}
	}
}

func TestGoodbyesDoNotAllocate(t *testing.T) {
	e, mem := New(usual()), bufferFor(0)
	if got := testing.AllocsPerRun(100, func() {
		s := Upgraded()
		e.Goodbye(mem[:0], &s, 1001, "bye")
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// A connection's slot has room for a State of 32 bytes.
func TestSizesOfStateAndBuffer(t *testing.T) {
	if size := unsafe.Sizeof(State{}); size != 32 {
		t.Errorf("State: got %d bytes, want 32", size)
	}
	if size := unsafe.Sizeof(Buffer{}); size > 64+8 {
		t.Errorf("Buffer: got %d bytes, want at most 72", size)
	}
}
