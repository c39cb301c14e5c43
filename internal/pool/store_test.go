package pool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// kernelRoom is the send buffer size, in bytes, of both ends of a connection with small buffers.
const kernelRoom = 32 << 10

// connectsWithSmallBuffers connects a peer with small send buffers, so that one or two megabytes
// make a write backlog.
func (h *harness) connectsWithSmallBuffers() *peer {
	h.t.Helper()
	// Receive buffers must have room for several loopback segments. Otherwise the kernel drops
	// segments and retransmits them after increasing delays.
	h.limits(h.listeners[0].FD, unix.SO_RCVBUF, 4*kernelRoom) // for the sockets that it accepts
	h.limits(h.listeners[0].FD, unix.SO_SNDBUF, kernelRoom)
	p := h.dials()
	h.limits(p.fd, unix.SO_SNDBUF, kernelRoom)
	return p.upgrades()
}

// limits sets a buffer size of a socket.
func (h *harness) limits(fd, option, bytes int) {
	h.t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bytes); err != nil {
		h.t.Fatal(err)
	}
}

// wantsEchoWhileSending sends the remaining bytes while it reads the echo of all frames.
func (p *peer) wantsEchoWhileSending(why string, remaining []byte, frames ...ws.Frame) {
	p.h.t.Helper()
	want := echoed(frames...)
	p.until(why, func() bool {
		remaining = p.sendsSome(remaining)
		return len(p.got) >= len(want) && len(remaining) == 0
	})
	p.wants(why, want)
}

// A peer that sends without reading is not read from while there is a write backlog. When it reads,
// the server reads on, and the peer receives everything.
func TestLateReaderReceivesEverything(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")} {
		for _, size := range []int{100, 5000, 60_000} {
			t.Run(fmt.Sprint(addr[:4], " ", size), func(t *testing.T) {
				h := newHarnessAt(t, []string{addr})
				p := h.connectsWithSmallBuffers()
				s, _ := p.slot()
				witness := h.connects()
				frames := messages(2_000_000/size, size)
				all := masked(frames...)
				remaining := p.sendsUntilBlocked(all)
				taken := len(all) - len(remaining)

				if !h.workers[0].conns.store.hasUnsent(s) {
					t.Fatal("there is no write backlog")
				}
				before := h.count().BytesIn
				witness.wantsAlive("while another has a backlog")
				h.wantsCount("bytes read from others", h.count().BytesIn-before, witness.sent-uint64(len(request)))

				// The peer sends no more, so that only its reading makes the server continue.
				whole := taken / len(masked(frames[0]))
				for len(masked(frames[:whole]...)) > taken {
					whole--
				}
				p.wantsEcho("echo of what the server had received", frames[:whole]...)
				p.wantsEchoWhileSending("the remaining frames", remaining, frames[whole:]...)
				if h.held() != 0 {
					t.Errorf("%d bytes are held at the end, want 0", h.held())
				}
				p.wantsAlive("after the backlog")
			})
		}
	}
}

// A connection may hold unsent output and unfinished input at the same time.
func TestBacklogAndUnfinishedFrameAreHeldTogether(t *testing.T) {
	for _, size := range []int{700, 3000, 20_000} {
		h := newHarness(t)
		p := h.connectsWithSmallBuffers()
		frames := messages(2_000_000/size, size)
		remaining := masked(frames...)
		both := false
		h.until("all is sent", func() bool {
			before := len(remaining)
			if remaining = p.sendsSome(remaining); len(remaining) == before {
				p.readsSome()
			}
			s, _ := p.slot()
			w := h.workers[0]
			both = both || len(w.conns.store.unsent(s)) > 0 && len(w.conns.store.rest(s)) > 0
			return len(remaining) == 0
		})
		p.wantsEcho("echo of everything", frames...)
		if !both {
			t.Errorf("messages of %d bytes: never held unsent output and a rest together", size)
		}
	}
}

// Control frames are sent after the write backlog.
func TestPongAndCloseFollowBacklog(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithSmallBuffers()
	frames := append(messages(500, 3000), ping("still there?"), text("yes"), closing(3000))
	remaining := p.sendsUntilBlocked(masked(frames...))
	p.wantsEchoWhileSending("echoes, pong and close reply in order", remaining, frames...)
	p.wantsFIN("after the close reply")
	h.wantsEnded(nil) // the server waits for the peer's FIN
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestViolationIsAnsweredAfterBacklog(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithSmallBuffers()
	frames := messages(500, 3000)
	remaining := p.sendsUntilBlocked(append(masked(frames...), 0xff, 0xff))
	p.wantsEchoWhileSending("echo of the messages before the violation", remaining, frames...)
	p.wantsClose("after the echo", 1002)
	p.wantsFIN("after the close frame")
}

func TestFINWaitsForBacklog(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithSmallBuffers()
	frames := messages(500, 3000)
	remaining := p.sendsUntilBlocked(masked(frames...))
	want := echoed(frames...)
	p.until("all is sent", func() bool { remaining = p.sendsSome(remaining); return len(remaining) == 0 })
	p.ends()
	p.until("echo of everything", func() bool { return len(p.got) >= len(want) })
	p.wants("echo of everything", want)
	p.wantsFIN("after the echo")
	h.wantsEnded(map[Reason]uint64{Disconnected: 1})
}

// A long frame that arrives byte by byte is read into its block. It moves only when the block is
// too small, to one of at least twice the size.
func TestFrameByteByByteIsNotCopied(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	f := binary(1, 20_000)
	all := masked(f)
	p.sends(all[:3000])
	h.runsUntilIdle()
	s, _ := p.slot()
	w := h.workers[0]
	moves, last := 0, s.held
	for i := range all[3000:] {
		p.sends(all[3000+i:][:1])
		h.pass()
		if s.held != last {
			moves, last = moves+1, s.held
		}
		if len(w.conns.store.rest(s)) > 0 && len(h.arena.Bytes(s.held)) > 8*len(w.conns.store.rest(s)) {
			t.Fatalf("a block of %d bytes is held for %d bytes of input", len(h.arena.Bytes(s.held)), len(w.conns.store.rest(s)))
		}
	}
	p.wantsEcho("echo of the frame", f)
	if most := 3 + 1; moves > most { // it grows from 3000 to 20,000 bytes, and is released
		t.Errorf("the frame has moved %d times, want at most %d", moves, most)
	}
}

func TestLongRequestInSmallPieces(t *testing.T) {
	h := newHarness(t)
	p := h.dials()
	all := request[:len(request)-2] + "X-Padding: " + string(bytes.Repeat([]byte("x"), 7000)) + "\r\n\r\n"
	for len(all) > 0 {
		n := min(len(all), 97)
		p.sends([]byte(all[:n]))
		h.pass()
		all = all[n:]
	}
	p.wantsUpgrade()
	p.wantsAlive("after a long request")
	if h.held() != 0 {
		t.Errorf("%d bytes are held at the end, want 0", h.held())
	}
}

// A frame may be split anywhere, including at the lengths where the store holds a rest differently.
func TestFrameCutAnywhere(t *testing.T) {
	h := newHarness(t, bufferSize(8192))
	p := h.connects()
	for _, size := range []int{shortRest, 3000, 8192 - 64 - 512 - 8} {
		f := binary(size, size)
		all := masked(f)
		for _, at := range []int{1, 2, 3, 7, 8, 9, shortRest - 1, shortRest, shortRest + 1, 2048 - 576, 2048, len(all) - 1} {
			if at >= len(all) {
				continue
			}
			p.sends(all[:at])
			h.runsUntilIdle()
			p.sends(all[at:])
			p.wantsEcho(fmt.Sprintf("%d bytes split at %d", size, at), f)
			p.sends(all[:at])
			h.runsUntilIdle()
			p.sends(all[at:], masked(text("behind"))[:5])
			h.runsUntilIdle()
			p.sends(masked(text("behind"))[5:])
			p.wantsEcho(fmt.Sprintf("%d bytes split at %d, followed by half a frame", size, at), f, text("behind"))
		}
	}
	if h.held() != 0 {
		t.Errorf("%d bytes are held at the end, want 0", h.held())
	}
}

// A message that is longer than the buffer is echoed in fragments.
func TestLongMessageIsEchoedInFragments(t *testing.T) {
	h := newHarness(t, bufferSize(8192))
	p := h.connects()
	for _, size := range []int{8192 - 64 - 512, 8192, 100_000, 3_000_000} {
		f := binary(size, size)
		remaining := masked(f)
		got := p.got
		p.until("all is sent", func() bool {
			remaining = p.sendsSome(remaining)
			return len(remaining) == 0
		})
		p.got = append(got, p.got...)
		p.wantsMessage(fmt.Sprint(size), ws.OpBinary, f.Payload)
	}
}

// Random frames in random pieces are echoed, also to peers that rarely read.
func TestRandomFramesInRandomPieces(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 2048 << r.IntN(4)
		h := newHarness(t, bufferSize(size), workers(1+r.IntN(2)))
		type talk struct {
			*peer
			frames    []ws.Frame
			remaining []byte
		}
		var talks []*talk
		for i := range 6 {
			p := h.connects
			if i%2 == 0 {
				p = h.connectsWithSmallBuffers
			}
			c := &talk{peer: p()}
			for n := range 300 {
				f := binary(n, r.IntN(1<<r.IntN(15))%(size-700))
				if r.IntN(10) == 0 {
					f = ping("?")
				}
				c.frames = append(c.frames, f)
			}
			c.remaining = masked(c.frames...)
			talks = append(talks, c)
		}
		h.until("all is sent", func() bool {
			left := 0
			for _, c := range talks {
				n := min(len(c.remaining), 1+r.IntN(1<<r.IntN(17)))
				c.remaining = c.remaining[n-len(c.sendsSome(c.remaining[:n])):]
				if left += len(c.remaining); r.IntN(20) == 0 {
					c.reads()
				}
			}
			return left == 0
		})
		for i, c := range talks {
			c.wantsEcho(fmt.Sprintf("seed %d, peer %d", seed, i), c.frames...)
		}
		if h.held() != 0 {
			t.Errorf("seed %d: %d bytes are held at the end, want 0", seed, h.held())
		}
	}
}

// Memory is returned to the system some time after the last connection has released it.
func TestMemoryOfPeakIsReturned(t *testing.T) {
	h := newHarness(t)
	w := h.workers[0]
	h.advances(3 * trimEvery * tickTime)
	h.until("the arena has no pages to return", func() bool { h.time += sweepEvery; return !w.conns.store.needsTrim })
	p, f := h.connects(), binary(1, 50_000)
	all := masked(f)
	p.sends(all[:30_000])
	h.runsUntilIdle()
	p.sends(all[30_000:])
	p.wantsEcho("echo of the frame", f)
	if !w.conns.store.needsTrim {
		t.Fatal("needsTrim is false after memory was released, want true")
	}
	h.until("the memory is returned", func() bool { h.time += sweepEvery; return !w.conns.store.needsTrim })
	for range 2 { // pages are kept for one trim
		if h.arena.Trim() {
			t.Error("the arena still has pages to return")
		}
	}
}
