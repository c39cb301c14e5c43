package pool

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/arena"
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// smallestBlock is the size in bytes of an arena's smallest block.
const smallestBlock = 64

// exhaustsBudget allocates the whole free budget. The function that it returns releases it.
func (h *harness) exhaustsBudget() (release func()) {
	var blocks []arena.Block
	for size := h.cfg.BufferSize; size >= smallestBlock; size /= 2 {
		for b := h.arena.Alloc(size); b != 0; b = h.arena.Alloc(size) {
			blocks = append(blocks, b)
		}
	}
	return func() {
		for _, b := range blocks {
			h.arena.Release(b)
		}
	}
}

// takesSpareBlock connects a peer that sends half a frame, which takes the spare block of its
// worker. From then on all turns of the worker are low-memory turns. It returns the remaining bytes
// of the frame, and the frame.
func (h *harness) takesSpareBlock() (p *peer, remaining []byte, f ws.Frame) {
	h.t.Helper()
	p = h.connects()
	f = binary(1, h.cfg.BufferSize/2)
	all := masked(f)
	half := min(len(all)/2, 5000)
	p.sends(all[:half])
	h.until("a connection holds a spare block", func() bool {
		return slices.ContainsFunc(h.workers, func(w *worker) bool { return w.conns.store.spareOwner != nil })
	})
	return p, all[half:], f
}

// fillsSendBuffer sends messages without reading, until the server's socket is still writable but
// has no room for another frame. It returns the messages.
func (p *peer) fillsSendBuffer() (sent []ws.Frame) {
	p.h.t.Helper()
	_, fd := p.slot()
	for queued := 0; queued < kernelRoom/2; {
		f := binary(len(sent), 4000)
		p.sends(masked(f))
		p.h.runsUntilIdle()
		sent = append(sent, f)
		var err error
		if queued, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ); err != nil {
			p.h.t.Fatal(err)
		}
	}
	if !netpoll.Writable(fd) {
		p.h.t.Fatal("the server's socket is not writable, want less queued")
	}
	return sent
}

// wantsMessages waits for the echo of messages, in any number of fragments.
func (p *peer) wantsMessages(why string, frames ...ws.Frame) {
	p.h.t.Helper()
	for i, f := range frames {
		if f.Header.OpCode == ws.OpPing {
			continue
		}
		p.wantsMessage(fmt.Sprintf("%s, message %d", why, i), f.Header.OpCode, f.Payload)
	}
}

// If many peers send half a frame each, the held memory stays within the budget, and other peers'
// messages are echoed.
func TestHalfFramesStayWithinBudget(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := newHarness(t, workers(n), bufferBudget(4*64<<10))
		witness := h.connects()
		type half struct {
			*peer
			frame     ws.Frame
			remaining []byte
		}
		var halves []half
		for i := range 40 {
			f := binary(i, 30_000+1000*i%30_000)
			all := masked(f)
			p := h.connects()
			p.sends(all[:len(all)/2])
			halves = append(halves, half{p, f, all[len(all)/2:]})
			witness.wantsAlive("while half frames arrive")
			if most := (4 + n) * 64 << 10; h.held() > most {
				t.Fatalf("%d bytes are held, want at most %d", h.held(), most)
			}
		}
		h.runsUntilIdle()
		if h.count().LowMemoryTurns == 0 || h.held() < 4*64<<10/2 {
			t.Errorf("got %d low-memory turns and %d bytes held, want the budget used up", h.count().LowMemoryTurns, h.held())
		}
		for _, p := range halves {
			p.sends(p.remaining)
			witness.wantsAlive("while the other halves arrive")
		}
		for i, p := range halves {
			p.wantsMessages(fmt.Sprint("peer ", i), p.frame)
			p.wantsAlive("after its frame")
		}
		if h.held() != 0 {
			t.Errorf("%d bytes are held at the end, want 0", h.held())
		}
	}
}

// If many peers send without reading, the held memory stays within the budget. When they read, they
// receive everything.
func TestSlowReadersStayWithinBudget(t *testing.T) {
	for n, maxHeader := range map[int]int{1: 1 << 10, 2: 32 << 10} { // MaxHeader must not matter for frames
		h := newHarness(t, workers(n), bufferBudget(4*64<<10), func(cfg *Config) { cfg.Echo.MaxHeader = maxHeader })
		witness := h.connects()
		type silent struct {
			*peer
			frames    []ws.Frame
			remaining []byte
		}
		var peers []*silent
		for i := range 20 {
			p := &silent{peer: h.connectsWithSmallBuffers(), frames: messages(500, 1000+100*i)}
			p.remaining = p.sendsUntilBlocked(masked(p.frames...))
			peers = append(peers, p)
			witness.wantsAlive("while peers do not read")
			if most := (4 + n) * 64 << 10; h.held() > most {
				t.Fatalf("%d bytes are held, want at most %d", h.held(), most)
			}
		}
		if h.count().LowMemoryTurns == 0 {
			t.Errorf("got no low-memory turns and %d bytes held, want the budget used up", h.held())
		}
		h.wantsEnded(nil)
		for i, p := range peers {
			p.until("all is sent", func() bool { p.remaining = p.sendsSome(p.remaining); return len(p.remaining) == 0 })
			p.wantsMessages(fmt.Sprint("peer ", i), p.frames...)
			witness.wantsAlive("while peers read")
			p.wantsAlive("after its backlog")
		}
		if h.held() != 0 {
			t.Errorf("%d bytes are held at the end, want 0", h.held())
		}
	}
}

func TestSpareBlockIsReleased(t *testing.T) {
	h := newHarness(t)
	release := h.exhaustsBudget()
	defer release()
	spareOwner, remaining, f := h.takesSpareBlock()
	witness := h.connects()
	before := h.count().LowMemoryTurns
	witness.wantsAlive("in a low-memory turn")
	if h.count().LowMemoryTurns == before {
		t.Error("got a full turn, want a low-memory turn")
	}
	spareOwner.sends(remaining)
	spareOwner.wantsMessages("echo in fragments", f)
	h.runsUntilIdle()
	before = h.count().LowMemoryTurns
	witness.wantsAlive("in a full turn")
	h.wantsCount("low-memory turns", h.count().LowMemoryTurns, before)
}

// A peer that never completes its frame holds the spare block only until there is another block.
func TestSpareBlockIsReplacedWhenMemoryIsFree(t *testing.T) {
	h := newHarness(t)
	release := h.exhaustsBudget()
	spareOwner, remaining, f := h.takesSpareBlock()
	witness := h.connects()
	witness.wantsAlive("in a low-memory turn")
	release()
	before := h.count().LowMemoryTurns
	witness.wantsAlive("in a full turn")
	h.wantsCount("low-memory turns", h.count().LowMemoryTurns, before)
	spareOwner.sends(remaining)
	spareOwner.wantsEcho("echo of the complete frame", f)
}

func TestHandshakeInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p := h.dials()
	for i := range request {
		p.sends([]byte(request[i : i+1]))
		h.pass()
	}
	p.wantsUpgrade()
	p.wantsAlive("after a request byte by byte")
	q := h.dials()
	q.sends([]byte(request), masked(text("early"), text("bird")))
	q.wantsUpgrade()
	q.wantsEcho("echo of frames in the request's segment", text("early"), text("bird"))
	h.wantsEnded(nil)
}

// A request that was already long when low-memory turns began may become longer.
func TestLongRequestThatBeganBeforeLowMemoryTurns(t *testing.T) {
	for _, began := range []int{100, 1000, 1100, 2000, 4000, 7000} {
		h := newHarness(t)
		p := h.dials()
		long := request[:len(request)-2] + "X-Padding: " + string(make([]byte, 0, 7500))
		for len(long) < 8000 {
			long += "x"
		}
		long += "\r\n\r\n"
		p.sends([]byte(long[:began]))
		h.runsUntilIdle()
		release := h.exhaustsBudget()
		h.takesSpareBlock()
		p.sends([]byte(long[began : len(long)-1]))
		p.wantsNothing("incomplete request")
		p.sends([]byte(long[len(long)-1:]), masked(text("hello")))
		p.wantsUpgrade()
		p.wantsEcho("echo of a frame after the request", text("hello"))
		release()
	}
}

func TestRefusalInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.1\r\nX-Padding: "), make([]byte, 0), []byte(request)[:30])
	p.wantsNothing("incomplete request")
	p.ends()
	p.wantsFIN("after the peer's FIN")
	q := h.dials()
	q.sends([]byte("hello, is this SMTP?\r\n"))
	q.wantsStatus("not HTTP", 400)
	r := h.dials()
	r.sends([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	r.wantsStatus("request without upgrade", 426)
}

func TestControlFrameInPiecesInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p := h.connects()
	for _, b := range masked(ping("is it long enough?"), text("hi"), ping("")) {
		p.sends([]byte{b})
		h.pass()
	}
	p.wantsEcho("pong", ping("is it long enough?"))
	p.wantsMessages("echo in fragments", text("hi"))
	p.wantsEcho("pong to the second ping", ping(""))
	closes := masked(closing(1000))
	p.sends(closes[:7])
	p.wantsNothing("incomplete close frame")
	p.sends(closes[7:])
	p.wantsEcho("close reply", closing(1000))
	p.wantsFIN("after the close reply")
}

// Input that stays in the kernel because memory is short is read when there is memory, without
// another edge and without a timeout.
func TestStarvedConnectionIsRetriedInSweeps(t *testing.T) {
	h := newHarness(t)
	release := h.exhaustsBudget()
	h.takesSpareBlock()
	p := h.connects()
	half := masked(ping("is it long enough?"))
	p.sends(half[:9])
	h.runsUntilIdle()
	s, _ := p.slot()
	if !s.is(starved) {
		t.Fatal("the connection is not starved")
	}
	release()
	h.advances(late)
	h.runsUntilIdle()
	if s.is(starved) || len(h.workers[0].conns.store.rest(s)) != 9 {
		t.Errorf("got %d bytes held, want 9 and the connection no longer starved", len(h.workers[0].conns.store.rest(s)))
	}
	p.sends(half[9:])
	p.wantsEcho("pong to the complete ping", ping("is it long enough?"))
}

func TestFINInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	for _, c := range []struct {
		name   string
		whole  []ws.Frame
		behind []byte
	}{
		{name: "no input"},
		{name: "a message", whole: []ws.Frame{text("last words")}},
		{name: "half a header behind", whole: []ws.Frame{text("last words")}, behind: []byte{0x81}},
		{name: "half a ping behind", whole: []ws.Frame{text("last words")}, behind: masked(ping("hello"))[:8]},
	} {
		p := h.connects()
		p.sends(masked(c.whole...), c.behind)
		p.ends()
		p.wantsEcho(c.name, c.whole...)
		p.wantsFIN(c.name)
	}
	h.wantsEnded(map[Reason]uint64{Disconnected: 4})
}

// Input that is held when low-memory turns begin may be more than the kernel takes at once. Its own
// block is memory enough for the echo.
func TestLongRestInLowMemoryTurns(t *testing.T) {
	for _, held := range []int{1100, 5000, 60_000, 200_000} {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			h := newHarness(t, bufferSize(256<<10))
			p := h.connectsWithSmallBuffers()
			before := p.fillsSendBuffer()
			f := binary(2, 250_000)
			all := masked(f)
			remaining := p.sendsSome(all[:held])
			h.until("half a frame is held", func() bool {
				remaining = p.sendsSome(remaining)
				s, _ := p.slot()
				return len(remaining) == 0 && len(h.workers[0].conns.store.rest(s)) == held
			})
			release := h.exhaustsBudget()
			spareOwner, others, of := h.takesSpareBlock()
			remaining = p.sendsUntilBlocked(append(all[held:], masked(messages(500, 3000)...)...))
			h.wantsEnded(nil)
			p.until("all is sent", func() bool { remaining = p.sendsSome(remaining); return len(remaining) == 0 })
			p.wantsMessages("echo of everything", append(append(before, f), messages(500, 3000)...)...)
			spareOwner.sends(others)
			spareOwner.wantsMessages("echo of the spare owner's frame", of)
			release()
		})
	}
}

// A writable socket may still not take a whole reply. Without memory for the remainder the
// connection is closed, since its stream would continue with a gap.
func TestPartlySentReplyWithoutMemoryClosesConnection(t *testing.T) {
	h := newHarnessAt(t, []string{"unix:" + filepath.Join(t.TempDir(), "socket")})
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	other := h.dialsAt(0).upgrades()
	p := h.dialsAt(0).upgrades()
	_, fd := p.slot()               // the last one, as peers on unix sockets have no names
	h.limits(fd, unix.SO_SNDBUF, 1) // the kernel makes 4608 of it
	p.sends(masked(text("a")))
	h.runsUntilIdle() // its echo is not read
	p.sends(masked(binary(1, 4000)))
	h.runsUntilIdle()
	if p.reads(); len(p.got) > 4000 {
		t.Skip("this kernel takes all of the reply")
	}
	h.wantsEnded(map[Reason]uint64{OutOfMemory: 1})
	other.wantsAlive("no other connection is affected")
}

// A block may be full to its last byte when low-memory turns begin.
func TestFullBlockInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	f := binary(1, 20_000)
	all := masked(f)
	const first, full = 1100, 4096 - echo.Headroom - echo.Tailroom
	p.sends(all[:first])
	h.runsUntilIdle()
	p.sends(all[first:full])
	h.runsUntilIdle()
	s, _ := p.slot()
	if mem := h.arena.Bytes(s.held); len(mem) != 4096 || len(h.workers[0].conns.store.rest(s)) != full {
		t.Fatalf("got %d bytes held in a block of %d, want a full block of 4096", len(h.workers[0].conns.store.rest(s)), len(mem))
	}
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p.sends(all[full:])
	p.wantsMessages("echo in fragments", f)
	p.wantsAlive("after the frame")
}

// A slow reader that holds the spare block itself receives everything, too.
func TestSpareOwnerInLowMemoryTurns(t *testing.T) {
	h := newHarness(t, bufferSize(256<<10))
	defer h.exhaustsBudget()()
	p := h.connectsWithSmallBuffers()
	before := p.fillsSendBuffer()
	f := binary(3, 250_000)
	remaining := masked(append([]ws.Frame{f}, messages(500, 3000)...)...)
	remaining = p.sendsSome(remaining)
	h.until("the connection holds the spare block", func() bool { return h.workers[0].conns.store.spareOwner != nil })
	remaining = p.sendsUntilBlocked(remaining)
	h.wantsEnded(nil)
	p.until("all is sent", func() bool { remaining = p.sendsSome(remaining); return len(remaining) == 0 })
	p.wantsMessages("echo of everything", append(append(before, f), messages(500, 3000)...)...)
}

func TestAdoptInLowMemoryTurns(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()

	p := h.adopts(echo.Upgraded(), masked(text("early"), text("bird")))
	p.wantsEcho("echo of what was already read", text("early"), text("bird"))
	p.wantsAlive("after that")

	f := binary(1, 3000)
	p = h.adopts(echo.Upgraded(), masked(f)[:1000])
	p.sends(masked(f)[1000:])
	p.wantsMessages("echo of a frame that was read in part", f)

	p = h.adopts(echo.State{}, []byte(request[:50]))
	p.wantsStatus("no memory to keep half a request", 503)

	p = h.adopts(echo.State{}, []byte(request))
	p.wantsUpgrade()
	p.wantsAlive("after a complete request")
}

// A parked connection is not sent a ping, because there is no memory to keep it.
func TestNoPingForParkedPeer(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.IdleTimeout, cfg.WriteTimeout = time.Minute, time.Hour })
	release := h.exhaustsBudget()
	h.takesSpareBlock()
	p := h.connectsWithSmallBuffers()
	frames := messages(500, 3000)
	remaining := p.sendsUntilBlocked(masked(frames...))
	h.advances(30 * time.Second)
	h.wantsEnded(nil)
	p.until("all is sent", func() bool { remaining = p.sendsSome(remaining); return len(remaining) == 0 })
	p.wantsMessages("echo of everything", frames...)
	release()
}

// Input that was read before Adopt is not in the kernel. If there is no memory to keep it, the
// connection ends: without that input, later input would be misinterpreted.
func TestAdoptedInputThatCannotBeKeptEndsConnection(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	half := masked(ping("is there room?"))
	half = half[:len(half)-1]
	p := h.adopts(echo.Upgraded(), half)
	p.wantsFIN("no memory to keep half a ping")
	h.wantsEnded(map[Reason]uint64{OutOfMemory: 1})

	p = h.adopts(echo.State{}, []byte(request[:30]))
	p.wantsStatus("no memory to keep half a request", 503)
}
