package echo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// benchmarkReceive measures Receive for the input in, in the given state. The measurement includes
// copying the input into the buffer, as the kernel does in a read.
func benchmarkReceive(b *testing.B, in []byte, open State) {
	e := New(usual())
	mem := make([]byte, Headroom+len(in)+Tailroom)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		s := open
		buf := Buffer{Bytes: mem, Start: Headroom, End: Headroom + copy(mem[Headroom:], in)}
		e.Receive(&s, &buf, true)
		if s.phase != Open || buf.Out == buf.OutEnd {
			b.Fatalf("got output %q in phase %d, want output in phase Open", mem[buf.Out:buf.OutEnd], s.phase)
		}
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, n := range []int{16, 128, 1 << 10, 64 << 10} {
		payload := strings.Repeat("0123456789abcdef", n/16)
		b.Run(fmt.Sprintf("text/%d", n), func(b *testing.B) {
			benchmarkReceive(b, text(payload).wire(), Upgraded())
		})
		b.Run(fmt.Sprintf("binary/%d", n), func(b *testing.B) {
			benchmarkReceive(b, binaryOf(payload).wire(), Upgraded())
		})
	}
	b.Run("text cut through/65536", func(b *testing.B) {
		within := Upgraded()
		within.op, within.remaining, within.mask, within.cut = ws.OpText, 1<<40, 0x04030201, cutFrame{op: ws.OpContinuation, fin: true}
		benchmarkReceive(b, bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16), within) // ASCII with this mask, too
	})
	b.Run("16 texts/128", func(b *testing.B) {
		one := text(strings.Repeat("0123456789abcdef", 8)).wire()
		benchmarkReceive(b, bytes.Repeat(one, 16), Upgraded())
	})
	b.Run("mixed text/1024", func(b *testing.B) {
		benchmarkReceive(b, text(strings.Repeat("Füße, €uro, 日本語, 𐍈! ", 40)[:1024]).wire(), Upgraded())
	})
	b.Run("ping/16", func(b *testing.B) {
		benchmarkReceive(b, ping("0123456789abcdef").wire(), Upgraded())
	})
}

func BenchmarkUpgrade(b *testing.B) {
	b.Run("sample", func(b *testing.B) { benchmarkReceive(b, sample().wire(), State{}) })
	b.Run("browser", func(b *testing.B) {
		benchmarkReceive(b, sample().with("Connection: keep-alive, Upgrade").and("Origin: http://example.com",
			"User-Agent: "+strings.Repeat("x", 110), "Pragma: no-cache", "Cache-Control: no-cache", "Accept-Encoding: gzip, deflate, br",
			"Accept-Language: en-GB,en;q=0.9", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits").wire(), State{})
	})
}

func BenchmarkUTF8(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ASCII", strings.Repeat("0123456789abcdef", 64<<10/16)},
		{"mixed", strings.Repeat("Füße, €uro, 日本語, 𐍈! ", 64<<10/32)[:64<<10]},
	} {
		for _, n := range []int{16, 128, 1 << 10, 64 << 10} {
			p := []byte(c.text[:n])
			b.Run(fmt.Sprintf("utf8Check/%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					var check utf8Check
					check.next(p)
				}
			})
			b.Run(fmt.Sprintf("utf8.Valid/%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					utf8.Valid(p)
				}
			})
		}
	}
}

// BenchmarkUnmask measures unmasking alone, which is the lower bound for an echo.
func BenchmarkUnmask(b *testing.B) {
	for _, n := range []int{16, 128, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				unmask(p, 0x3d21fa37)
			}
		})
	}
}
