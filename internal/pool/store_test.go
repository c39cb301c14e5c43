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

// kernelRoom is what the kernel keeps of what either end of a reluctant peer's connection
// has sent.
const kernelRoom = 32 << 10

// reluctant connects a peer for which the kernel keeps little, so that a
// backlog is made of a megabyte or two.
func (h *harness) reluctant() *peer {
	h.t.Helper()
	// Receive buffers must have room for some segments of loopback's, or segments are dropped
	// and sent again after ever longer times.
	h.limits(h.listeners[0].FD, unix.SO_RCVBUF, 4*kernelRoom) // for what it accepts
	h.limits(h.listeners[0].FD, unix.SO_SNDBUF, kernelRoom)
	p := h.dials()
	h.limits(p.fd, unix.SO_SNDBUF, kernelRoom)
	return p.upgrades()
}

func (h *harness) limits(fd, option, bytes int) {
	h.t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bytes); err != nil {
		h.t.Fatal(err)
	}
}

// wantsEchoWhileSending reads the echo of the frames while it sends the rest
// of them.
func (p *peer) wantsEchoWhileSending(why string, rest []byte, frames ...ws.Frame) {
	p.h.t.Helper()
	want := echoed(frames...)
	p.until(why, func() bool {
		rest = p.sendsSome(rest)
		return len(p.got) >= len(want) && len(rest) == 0
	})
	p.wants(why, want)
}

// A peer that sends without reading is not read from, when the kernel is full; and
// when it reads, it is, and gets everything.
func TestPeerThatReadsLateGetsEverything(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")} {
		for _, size := range []int{100, 5000, 60_000} {
			t.Run(fmt.Sprint(addr[:4], " ", size), func(t *testing.T) {
				h := opensAt(t, []string{addr})
				p := h.reluctant()
				s, _ := p.slot()
				witness := h.connects()
				frames := messages(2_000_000/size, size)
				all := masked(frames...)
				rest := p.stuffs(all)
				taken := len(all) - len(rest)

				if !h.workers[0].conns.store.hasUnsent(s) {
					t.Fatal("there is no backlog")
				}
				before := h.count().BytesIn
				witness.alive("others are not stalled")
				h.wantsCount("bytes read from others", h.count().BytesIn-before, witness.sent-uint64(len(request)))

				// It sends no more, so that nothing but its reading sets things going.
				whole := taken / len(masked(frames[0]))
				for len(masked(frames[:whole]...)) > taken {
					whole--
				}
				p.wantsEcho("what the kernels held", frames[:whole]...)
				p.wantsEchoWhileSending("the rest", rest, frames[whole:]...)
				if h.held() != 0 {
					t.Errorf("%d bytes are held for nothing", h.held())
				}
				p.alive("the connection goes on")
			})
		}
	}
}

// Unsent output and unfinished input are held together.
func TestBacklogAndUnfinishedFrameAreHeldTogether(t *testing.T) {
	for _, size := range []int{700, 3000, 20_000} {
		h := opens(t)
		p := h.reluctant()
		frames := messages(2_000_000/size, size)
		rest := masked(frames...)
		both := false
		h.until("all is sent", func() bool {
			before := len(rest)
			if rest = p.sendsSome(rest); len(rest) == before {
				p.sips()
			}
			s, _ := p.slot()
			w := h.workers[0]
			both = both || len(w.conns.store.unsent(s)) > 0 && len(w.conns.store.rest(s)) > 0
			return len(rest) == 0
		})
		p.wantsEcho("everything", frames...)
		if !both {
			t.Errorf("messages of %d bytes: never both", size)
		}
	}
}

// What is sent behind a backlog comes behind it.
func TestPingAndCloseBehindABacklog(t *testing.T) {
	h := opens(t)
	p := h.reluctant()
	frames := append(messages(500, 3000), ping("still there?"), text("yes"), closing(3000))
	rest := p.stuffs(masked(frames...))
	p.wantsEchoWhileSending("in order", rest, frames...)
	p.wantsFIN("the close was the last")
	h.wantsEnded(nil) // our end waits for the peer's
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestViolationBehindABacklog(t *testing.T) {
	h := opens(t)
	p := h.reluctant()
	frames := messages(500, 3000)
	rest := p.stuffs(append(masked(frames...), 0xff, 0xff))
	p.wantsEchoWhileSending("what came before is echoed", rest, frames...)
	p.wantsClose("then the violation is answered", 1002)
	p.wantsFIN("and that was all")
}

func TestEndBehindABacklog(t *testing.T) {
	h := opens(t)
	p := h.reluctant()
	frames := messages(500, 3000)
	rest := p.stuffs(masked(frames...))
	want := echoed(frames...)
	p.until("all is sent", func() bool { rest = p.sendsSome(rest); return len(rest) == 0 })
	p.ends()
	p.until("all is echoed", func() bool { return len(p.got) >= len(want) })
	p.wants("all is echoed", want)
	p.wantsFIN("then we end, too")
	h.wantsEnded(map[Reason]uint64{Disconnected: 1})
}

// A long frame that comes byte by byte is read to where it lies. It moves only
// when its block is too small, which then is at least doubled.
func TestDribbledFrameIsNotCopied(t *testing.T) {
	h := opens(t)
	p := h.connects()
	f := binary(1, 20_000)
	all := masked(f)
	p.sends(all[:3000])
	h.settles()
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
			t.Fatalf("a block of %d bytes is held for %d", len(h.arena.Bytes(s.held)), len(w.conns.store.rest(s)))
		}
	}
	p.wantsEcho("the frame", f)
	if most := 3 + 1; moves > most { // from 3000 to 20000 bytes, and let go
		t.Errorf("it has moved %d times, want at most %d", moves, most)
	}
}

// The same for a request.
func TestDribbledLongRequest(t *testing.T) {
	h := opens(t)
	p := h.dials()
	all := request[:len(request)-2] + "X-Padding: " + string(bytes.Repeat([]byte("x"), 7000)) + "\r\n\r\n"
	for len(all) > 0 {
		n := min(len(all), 97)
		p.sends([]byte(all[:n]))
		h.pass()
		all = all[n:]
	}
	p.wantsUpgrade()
	p.alive("the request was long")
	if h.held() != 0 {
		t.Errorf("%d bytes are held for nothing", h.held())
	}
}

// A frame may be cut anywhere, among others where the way in which its first
// part is held changes.
func TestFrameCutAnywhere(t *testing.T) {
	h := opens(t, bufferSize(8192))
	p := h.connects()
	for _, size := range []int{shortRest, 3000, 8192 - 64 - 512 - 8} {
		f := binary(size, size)
		all := masked(f)
		for _, at := range []int{1, 2, 3, 7, 8, 9, shortRest - 1, shortRest, shortRest + 1, 2048 - 576, 2048, len(all) - 1} {
			if at >= len(all) {
				continue
			}
			p.sends(all[:at])
			h.settles()
			p.sends(all[at:])
			p.wantsEcho(fmt.Sprintf("%d bytes cut at %d", size, at), f)
			p.sends(all[:at])
			h.settles()
			p.sends(all[at:], masked(text("behind"))[:5])
			h.settles()
			p.sends(masked(text("behind"))[5:])
			p.wantsEcho(fmt.Sprintf("%d bytes cut at %d, and half a frame behind", size, at), f, text("behind"))
		}
	}
	if h.held() != 0 {
		t.Errorf("%d bytes are held for nothing", h.held())
	}
}

// Messages longer than a buffer are cut through, and cost one buffer.
func TestLongMessageIsCutThrough(t *testing.T) {
	h := opens(t, bufferSize(8192))
	p := h.connects()
	for _, size := range []int{8192 - 64 - 512, 8192, 100_000, 3_000_000} {
		f := binary(size, size)
		rest := masked(f)
		got := p.got
		p.until("all is sent", func() bool {
			rest = p.sendsSome(rest)
			return len(rest) == 0
		})
		p.got = append(got, p.got...)
		p.wantsMessage(fmt.Sprint(size), ws.OpBinary, f.Payload)
	}
}

// Any cut of any frames, from peers that read now and then, is echoed all the
// same.
func TestAnyCutOfAnyFrames(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 2048 << r.IntN(4)
		h := opens(t, bufferSize(size), workers(1+r.IntN(2)))
		type talk struct {
			*peer
			frames []ws.Frame
			rest   []byte
		}
		var talks []*talk
		for i := range 6 {
			p := h.connects
			if i%2 == 0 {
				p = h.reluctant
			}
			c := &talk{peer: p()}
			for n := range 300 {
				f := binary(n, r.IntN(1<<r.IntN(15))%(size-700))
				if r.IntN(10) == 0 {
					f = ping("?")
				}
				c.frames = append(c.frames, f)
			}
			c.rest = masked(c.frames...)
			talks = append(talks, c)
		}
		h.until("all is sent", func() bool {
			left := 0
			for _, c := range talks {
				n := min(len(c.rest), 1+r.IntN(1<<r.IntN(17)))
				c.rest = c.rest[n-len(c.sendsSome(c.rest[:n])):]
				if left += len(c.rest); r.IntN(20) == 0 {
					c.reads()
				}
			}
			return left == 0
		})
		for i, c := range talks {
			c.wantsEcho(fmt.Sprintf("seed %d, peer %d", seed, i), c.frames...)
		}
		if h.held() != 0 {
			t.Errorf("seed %d: %d bytes are held for nothing", seed, h.held())
		}
	}
}

// Memory that connections have held goes back to the system some time after the last of them has let go.
func TestMemoryOfAPeakIsGivenBack(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	h.later(3 * trimEvery * tickTime)
	h.until("there is nothing to give back", func() bool { h.time += sweepEvery; return !w.conns.store.untidy })
	p, f := h.connects(), binary(1, 50_000)
	all := masked(f)
	p.sends(all[:30_000])
	h.settles()
	p.sends(all[30_000:])
	p.wantsEcho("it is whole", f)
	if !w.conns.store.untidy {
		t.Fatal("memory was used, and the worker does not know that there is some to give back")
	}
	h.until("it is given back", func() bool { h.time += sweepEvery; return !w.conns.store.untidy })
	for range 2 { // pages are kept for one trim
		if h.arena.Trim() {
			t.Error("the arena still has pages to give back")
		}
	}
}
