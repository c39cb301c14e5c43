package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"wsecho/loadtest/report"
	"wsecho/loadtest/stats"
)

// micro returns d in microseconds, the unit of reports.
func micro(d time.Duration) float64 { return float64(d) / 1e3 }

// A fakeServer is a server whose behaviour the test determines, connection by connection.
type fakeServer struct {
	url string
}

// startFake starts a server that calls behave on each connection, and closes the connection when it
// returns.
func startFake(t *testing.T, behave func(*fakeConn)) fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(testTimeout))
				behave(&fakeConn{Conn: c})
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return fakeServer{"ws://" + l.Addr().String() + "/"}
}

// A fakeConn is the server's end of a connection.
type fakeConn struct {
	net.Conn
	n          int // messages received
	closedWith ws.StatusCode
	isUpgraded bool // the opening request has been read: upgrades does nothing
}

// upgrades reads the opening request and responds with 101.
func (c *fakeConn) upgrades() {
	if c.isUpgraded {
		return
	}
	if _, err := ws.Upgrade(c.Conn); err != nil {
		c.Close()
	}
}

// receives returns the next message or pong, unmasked. It answers a close frame, and then returns
// false.
func (c *fakeConn) receives() (ws.OpCode, []byte, bool) {
	f, err := readFrame(c)
	if err != nil {
		return 0, nil, false
	}
	f = ws.UnmaskFrame(f)
	switch f.Header.OpCode {
	case ws.OpClose:
		c.closedWith, _ = ws.ParseCloseFrameData(f.Payload)
		c.sends(ws.NewCloseFrame(f.Payload))
		return 0, nil, false
	case ws.OpPong:
		return f.Header.OpCode, f.Payload, true
	}
	c.n++
	return f.Header.OpCode, f.Payload, true
}

func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err == nil {
		f.Payload = make([]byte, f.Header.Length)
		_, err = io.ReadFull(r, f.Payload)
	}
	return f, err
}

func (c *fakeConn) sends(frames ...ws.Frame) {
	var b bytes.Buffer
	for _, f := range frames {
		ws.WriteFrame(&b, f)
	}
	c.Write(b.Bytes())
}

// echoes echoes all messages but the third, which it passes to third. It ends if that returns
// false.
func (c *fakeConn) echoes(third func(op ws.OpCode, payload []byte) bool) {
	c.upgrades()
	for {
		op, payload, ok := c.receives()
		if !ok || c.n == 3 && !third(op, payload) {
			return
		}
		if c.n != 3 {
			c.sends(ws.NewFrame(op, true, payload))
		}
	}
}

// Each fault of a server is detected and counted by its kind.
func TestServerFaultsAreCountedByKind(t *testing.T) {
	answers := func(response string) func(*fakeConn) {
		return func(c *fakeConn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, response)
			io.Copy(io.Discard, c)
		}
	}
	third := func(f func(c *fakeConn, op ws.OpCode, payload []byte) bool) func(*fakeConn) {
		return func(c *fakeConn) {
			c.echoes(func(op ws.OpCode, payload []byte) bool { return f(c, op, payload) })
		}
	}
	for _, x := range []struct {
		name   string
		want   stats.Failure
		first  string // part of the detail of the first error
		behave func(*fakeConn)
	}{
		{"never answers", stats.TimedOut, "replies were outstanding", third(func(c *fakeConn, _ ws.OpCode, _ []byte) bool { return true })},
		{"alters a byte", stats.Mismatched, "message 2: byte 77 of 128", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			p[77] ^= 1
			c.sends(ws.NewFrame(op, true, p))
			return true
		})},
		{"leaves out a byte", stats.Mismatched, "a reply of 127 bytes to a message of 128", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.NewFrame(op, true, p[:127]))
			return true
		})},
		{"adds a byte", stats.Mismatched, "a reply of 129 bytes", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.NewFrame(op, true, append(p, 0)))
			return true
		})},
		{"answers binary with text", stats.Mismatched, "opcode 0x1", third(func(c *fakeConn, _ ws.OpCode, p []byte) bool {
			c.sends(ws.NewTextFrame(p))
			return true
		})},
		{"answers twice", stats.Unasked, "message 3", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.NewFrame(op, true, p), ws.NewFrame(op, true, p))
			return true
		})},
		{"answers with the message before", stats.Mismatched, "", func(c *fakeConn) {
			var before []byte
			c.upgrades()
			for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
				if c.n == 1 {
					before = p
				}
				c.sends(ws.NewFrame(op, true, before))
			}
		}},
		{"greets", stats.Unasked, "a frame of 2 bytes", func(c *fakeConn) {
			var b bytes.Buffer // in one segment with the response
			ws.Upgrade(struct {
				io.Reader
				io.Writer
			}{c, &b})
			ws.WriteFrame(&b, ws.NewTextFrame([]byte("hi")))
			c.Write(b.Bytes())
			io.Copy(io.Discard, c)
		}},
		{"masks", stats.Violated, "masked", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.MaskFrame(ws.NewFrame(op, true, p)))
			return true
		})},
		{"compresses", stats.Violated, "reserved bits", third(func(c *fakeConn, op ws.OpCode, p []byte) bool {
			f := ws.NewFrame(op, true, p)
			f.Header.Rsv = ws.Rsv(true, false, false)
			c.sends(f)
			return true
		})},
		{"closes", stats.Closed, `closed with 1001 "bye"`, third(func(c *fakeConn, _ ws.OpCode, _ []byte) bool {
			c.sends(ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "bye")))
			return false
		})},
		{"ends", stats.Cut, "ended by the server", third(func(c *fakeConn, _ ws.OpCode, _ []byte) bool { return false })},
		{"ends in the middle of a reply", stats.Cut, "ended by the server", third(func(c *fakeConn, _ ws.OpCode, p []byte) bool {
			c.Write(ws.MustCompileFrame(ws.NewBinaryFrame(p))[:50])
			return false
		})},
		{"resets", stats.Cut, "reset", third(func(c *fakeConn, _ ws.OpCode, _ []byte) bool {
			c.Conn.(*net.TCPConn).SetLinger(0)
			return false
		})},
		{"refuses", stats.HandshakeFailed, "503 Service Unavailable", answers("HTTP/1.1 503 Service Unavailable\r\n\r\n")},
		{"proves nothing", stats.HandshakeFailed, "Sec-WebSocket-Accept", answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n")},
		{"never responds", stats.HandshakeFailed, "no response", answers("")},
		{"never ends its response", stats.HandshakeFailed, "no end of the response", answers("HTTP/1.1 101 " + strings.Repeat("x", 20<<10))},
		{"ends instead of a response", stats.HandshakeFailed, "before the response", func(c *fakeConn) { c.Read(make([]byte, 4096)) }},
		{"never ends after a close", stats.TeardownFailed, "has not ended", func(c *fakeConn) {
			c.upgrades()
			for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
				c.sends(ws.NewFrame(op, true, p))
			}
			io.Copy(io.Discard, c)
		}},
		{"ends without a close", stats.TeardownFailed, "without a close frame", func(c *fakeConn) {
			c.upgrades()
			for {
				f, err := readFrame(c)
				if err != nil || f.Header.OpCode == ws.OpClose {
					return
				}
				c.sends(ws.UnmaskFrame(f))
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			one := atomic.Bool{} // the other connections echo, so that messages are measured
			s := startFake(t, func(c *fakeConn) {
				if one.Swap(true) {
					c.echoes(func(op ws.OpCode, p []byte) bool { c.sends(ws.NewFrame(op, true, p)); return true })
					return
				}
				x.behave(c)
			})
			r := wsload(t, s.url, "-timeout", "1s", "-fail-if", "errors>0")
			r.wantErrors(x.want)
			r.wantMessages()
			if c := r.Errors.Kinds[x.want.String()]; c.Count != 1 || !strings.Contains(c.First, x.first) {
				t.Errorf("got %d errors of the kind, the first is %q; want 1 with %q", c.Count, c.First, x.first)
			}
			if r.status != exitThreshold {
				t.Errorf("got exit status %d, want %d", r.status, exitThreshold)
			}
		})
	}
}

// Unusual behaviour that RFC 6455 allows is no error.
func TestUnusualBehaviourIsNoFault(t *testing.T) {
	var pongs atomic.Int64
	for name, third := range map[string]func(c *fakeConn, op ws.OpCode, p []byte) bool{
		"fragments": func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.NewFrame(op, false, p[:1]), ws.NewFrame(ws.OpContinuation, false, nil),
				ws.NewFrame(ws.OpContinuation, false, p[1:100]), ws.NewFrame(ws.OpContinuation, true, p[100:]))
			return true
		},
		"pings between fragments": func(c *fakeConn, op ws.OpCode, p []byte) bool {
			c.sends(ws.NewFrame(op, false, p[:1]), ws.NewPingFrame([]byte("there?")))
			if op, answer, ok := c.receives(); ok && op == ws.OpPong && string(answer) == "there?" {
				pongs.Add(1)
			}
			c.sends(ws.NewFrame(ws.OpContinuation, true, p[1:]))
			return true
		},
		"byte by byte": func(c *fakeConn, op ws.OpCode, p []byte) bool {
			for b := range slices.Chunk(ws.MustCompileFrame(ws.NewFrame(op, true, p)), 1) {
				c.Write(b)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startFake(t, func(c *fakeConn) {
				c.echoes(func(op ws.OpCode, p []byte) bool { return third(c, op, p) })
			})
			r := wsload(t, s.url)
			r.wantErrors()
			r.wantMessages()
		})
	}
	if pongs.Load() != 3 {
		t.Errorf("%d of 3 pings were answered, want all", pongs.Load())
	}
}

// In a closed loop, a stall delays only the outstanding message, so the percentiles hide it. At a
// fixed rate, it raises the latency of every message that was due meanwhile.
func TestFixedRateShowsStalls(t *testing.T) {
	const stall = 300 * time.Millisecond
	stalls := func(c *fakeConn) {
		c.upgrades()
		from := time.After(200 * time.Millisecond)
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			select {
			case <-from:
				<-time.After(stall)
			default:
			}
			c.sends(ws.NewFrame(op, true, p))
		}
	}
	// wsload runs in a separate process, since the test's server would delay its event loop.
	measure := func(args ...string) result {
		args = append([]string{"-json", "-connections", "1", "-duration", "600ms"}, args...)
		return runProcess(t, wsloadProcess(t, shortRun(startFake(t, stalls).url, args...)...)).parsed()
	}
	r := measure()
	r.wantErrors()
	if r.Latency.Max < micro(stall) || r.Latency.P99 > micro(stall)/2 {
		t.Errorf("in a closed loop: got %v, want a high maximum and a low p99", r.Latency)
	}
	r = measure("-rate", "200")
	r.wantErrors()
	if r.Latency.Max < micro(stall) || r.Latency.P50 > micro(stall) || r.Latency.P90 < micro(stall)/2 {
		t.Errorf("at a fixed rate: got %v, want a high p90", r.Latency)
	}
	if n := r.Latency.Count; n < 119 || n > 121 {
		t.Errorf("got %d messages, want 120", n)
	}
}

// If the server cannot keep the rate, the report shows the lower rate and the delay.
func TestRateThatIsTooHigh(t *testing.T) {
	s := startFake(t, func(c *fakeConn) {
		c.upgrades()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			<-tick.C
			c.sends(ws.NewFrame(op, true, p))
		}
	})
	r := wsload(t, s.url, "-connections", "1", "-rate", "1000", "-duration", "300ms", "-timeout", "400ms")
	r.wantErrors(stats.TimedOut) // messages that were due but not sent in time
	if r.Rate > 300 || r.Latency.P99 < micro(50*time.Millisecond) {
		t.Errorf("got %v per second, latency %v; want at most 300 per second and a p99 above 50 ms", r.Rate, r.Latency)
	}
}

// Messages that are due on a lost connection are counted as unsent.
func TestMessagesDueOnALostConnectionAreUnsent(t *testing.T) {
	s := startFake(t, func(c *fakeConn) { c.echoes(func(ws.OpCode, []byte) bool { return false }) })
	r := wsload(t, s.url, "-connections", "1", "-rate", "100", "-duration", "300ms")
	r.wantErrors(stats.Cut, stats.Unsent)
	if n := r.Errors.Kinds["unsent"].Count; n < 20 || n > 28 {
		t.Errorf("got %d unsent messages of 30, want 20 to 28", n)
	}
}

// In mode connect, connections that were due are opened even if the server is slow, or are counted
// as unsent.
func TestSlowServerDelaysDueConnections(t *testing.T) {
	s := startFake(t, func(c *fakeConn) {
		time.Sleep(20 * time.Millisecond) // at most 100 per second on two connections
		c.upgrades()
		if op, p, ok := c.receives(); ok {
			c.sends(ws.NewFrame(op, true, p))
			c.receives()
		}
	})
	args := []string{"-mode", "connect", "-rate", "400", "-connections", "2", "-duration", "300ms"}
	r := wsload(t, s.url, args...)
	r.wantErrors()
	if n := r.Latency.Count; n < 119 || n > 121 || r.Latency.Max < micro(800*time.Millisecond) {
		t.Errorf("got %d connections, latency %v; want 120 and a maximum above 800 ms", n, r.Latency)
	}
	r = wsload(t, s.url, append(args, "-timeout", "100ms")...)
	n, missed := uint64(r.Latency.Count)+r.Errors.Total, r.Errors.Kinds["unsent"].Count
	if n < 119 || n > 123 || missed < 50 { // a connection may be echoed and also fail to close in time
		t.Errorf("got %d connections, %d never opened, latency %v; want 120 in total", n, missed, r.Latency)
	}
}

// Messages are sent only when all connections are open, so that they do not delay the openings.
func TestMessagesBeginWhenAllConnectionsAreOpen(t *testing.T) {
	var upgraded atomic.Int32
	begun := make(chan struct{}, 1)
	s := startFake(t, func(c *fakeConn) {
		if upgraded.Load() == 2 { // delay the last one, so that a premature message would arrive
			select {
			case <-begun:
				t.Error("a message arrived before all connections were open")
			case <-time.After(50 * time.Millisecond):
			}
		}
		c.upgrades()
		upgraded.Add(1)
		for {
			op, payload, ok := c.receives()
			if !ok {
				return
			}
			select {
			case begun <- struct{}{}:
			default:
			}
			c.sends(ws.NewFrame(op, true, payload))
		}
	})
	for _, loop := range [][]string{{"-rate", "0"}, {"-rate", "500"}} {
		r := wsload(t, s.url, append(loop, "-handshakes", "1")...)
		r.wantErrors()
		if r.Messages == 0 || r.Open != 3 {
			t.Errorf("%q: got %d messages and %d connections, want some and 3", loop, r.Messages, r.Open)
		}
		upgraded.Store(0)
		<-begun
	}
}

// A pong is sent between two frames, not inside one, even if the socket is full.
func TestPongBetweenFrames(t *testing.T) {
	wrong := make(chan error, 10)
	s := startFake(t, func(c *fakeConn) {
		c.upgrades()
		c.sends(ws.NewPingFrame([]byte("1")))
		for { // pongs, and then the message
			h, err := ws.ReadHeader(c)
			if err != nil {
				wrong <- err
				return
			}
			c.sends(ws.NewPingFrame([]byte("2"))) // while most of the message is unsent
			p := make([]byte, h.Length)
			if _, err := io.ReadFull(c, p); err != nil {
				wrong <- err
				return
			}
			ws.Cipher(p, h.Mask, 0)
			if h.OpCode == ws.OpBinary {
				c.sends(ws.NewBinaryFrame(p))
				wrong <- nil
				break
			}
		}
		for {
			op, p, ok := c.receives()
			if !ok {
				return
			}
			if op == ws.OpBinary {
				c.sends(ws.NewBinaryFrame(p))
			} else if op != ws.OpPong {
				wrong <- errors.New("received an unexpected frame")
			}
		}
	})
	r := wsload(t, s.url, "-connections", "1", "-payload", "6MiB")
	r.wantErrors()
	if err := <-wrong; err != nil {
		t.Error(err)
	}
}

// With -reopen, connections that the server closes are reopened and continue. Exactly the messages
// that were sent and not echoed are counted as lost.
func TestReopen(t *testing.T) {
	// How the server ends a connection at the third message, by the expected code.
	servers := map[string]func(c *fakeConn, op ws.OpCode, p []byte) bool{
		"1001": func(c *fakeConn, _ ws.OpCode, _ []byte) bool {
			c.sends(ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "")))
			if _, _, ok := c.receives(); ok || c.closedWith != 1001 {
				t.Errorf("close code 1001 was answered with %d, want 1001", c.closedWith)
			}
			return false
		},
		"1011": func(c *fakeConn, _ ws.OpCode, _ []byte) bool {
			c.sends(ws.NewCloseFrame(ws.NewCloseFrameBody(1011, "")))
			c.receives()
			return false
		},
		"1006": func(c *fakeConn, _ ws.OpCode, _ []byte) bool { return false },
	}
	for code, third := range servers {
		for _, args := range [][]string{{}, {"-rate", "200"}} {
			t.Run(strings.Join(append(args, code), " "), func(t *testing.T) {
				var connections, received atomic.Uint64
				s := startFake(t, func(c *fakeConn) {
					// Only the first connections: if a server never echoes a third message, the
					// pauses between openings grow.
					well := connections.Add(1) > 12
					c.echoes(func(op ws.OpCode, p []byte) bool {
						if well {
							c.sends(ws.NewFrame(op, true, p))
							return true
						}
						return third(c, op, p)
					})
					received.Add(uint64(c.n))
				})
				r := wsload(t, s.url, append(args, "-reopen", "-connections", "2", "-duration", "400ms")...)
				switch code {
				case "1001":
					r.wantErrors()
				case "1011":
					r.wantErrors(stats.Closed)
				case "1006":
					r.wantErrors(stats.Cut)
				}
				if len(r.Closes) != 1 || fmt.Sprint(r.Closes[0].Code) != code {
					t.Fatalf("got closes %+v, want only %s", r.Closes, code)
				}
				closed := r.Closes[0]
				if closed.Connections < 5 || closed.Lost != closed.Connections || r.Lost != closed.Lost {
					t.Errorf("got %+v, %d lost in total; want 1 lost message per connection", closed, r.Lost)
				}
				if r.Reopened == 0 || r.Reopened+2 != connections.Load() {
					t.Errorf("reopened %d times, want 2 fewer than the server's %d connections", r.Reopened, connections.Load())
				}
				if len(args) == 0 {
					return // in a closed loop, messages are lost before the measured time, too
				}
				if n := received.Load(); uint64(r.Latency.Count)+r.Lost != n || n < 79 || n > 81 {
					t.Errorf("got %d latencies and %d lost messages, and the server received %d; want 80 in total", r.Latency.Count, r.Lost, n)
				}
			})
		}
	}
}

// Without -reopen, the report has the connections that the server closed, by code, and those still
// open.
func TestClosesAreCountedByCode(t *testing.T) {
	var n atomic.Int64
	s := startFake(t, func(c *fakeConn) {
		code := []ws.StatusCode{1001, 1001, 4000, 0}[n.Add(1)-1]
		c.echoes(func(op ws.OpCode, p []byte) bool {
			if code == 0 {
				c.sends(ws.NewFrame(op, true, p))
				return true
			}
			c.sends(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "")))
			c.receives()
			return false
		})
	})
	r := wsload(t, s.url, "-connections", "4", "-fail-if", "lost>2")
	r.wantErrors(stats.Closed)
	if want := []report.CloseCount{{Code: 1001, Connections: 2, Lost: 2}, {Code: 4000, Connections: 1, Lost: 1}}; !slices.Equal(r.Closes, want) || r.Lost != 3 || r.Open != 1 || r.Reopened != 0 {
		t.Errorf("got %+v, %d lost, %d open, %d reopened", r.Closes, r.Lost, r.Open, r.Reopened)
	}
	if r.status != exitThreshold {
		t.Errorf("got exit status %d, want %d", r.status, exitThreshold)
	}
}

// While a server is down, it is retried with pauses, until it is back.
func TestReopenRetriesWithPauses(t *testing.T) {
	var turnedAway, back atomic.Int64
	var until atomic.Pointer[time.Time] // nil: it has not been down
	s := startFake(t, func(c *fakeConn) {
		if t := until.Load(); t != nil {
			if time.Now().Before(*t) {
				turnedAway.Add(1)
				return
			}
			back.Add(1)
		}
		c.echoes(func(op ws.OpCode, p []byte) bool {
			t := time.Now().Add(300 * time.Millisecond)
			if until.CompareAndSwap(nil, &t) {
				return false
			}
			c.sends(ws.NewFrame(op, true, p))
			return true
		})
	})
	r := wsload(t, s.url, "-reopen", "-connections", "1", "-duration", "1s", "-rate", "100")
	r.wantErrors(stats.Cut, stats.HandshakeFailed)
	if n := turnedAway.Load(); n < 3 || n > 8 {
		t.Errorf("%d attempts while the server was down, want 3 to 8", n)
	}
	if back.Load() != 1 || r.Reopened != 1 || r.Open != 1 || r.Lost != 1 {
		t.Errorf("got %d connections after the server was back, %d reopened, %d open, %d lost; want 1 of each", back.Load(), r.Reopened, r.Open, r.Lost)
	}
	if n := uint64(r.Latency.Count) + r.Lost; n < 99 || n > 101 || r.Latency.Max < micro(200*time.Millisecond) {
		t.Errorf("got %d messages, %d lost, maximum latency %v µs; want 100 in total and more than 200 ms", n, r.Lost, r.Latency.Max)
	}
}
