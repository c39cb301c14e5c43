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

// spends takes all that is left of the budget. What it returns gives it back.
func (h *house) spends() (givesBack func()) {
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

// hoarder connects a peer that has the spare block of its worker, for the
// first half of a frame. All turns of the worker are frugal from then on.
func (h *house) hoarder() (p *peer, rest []byte, f ws.Frame) {
	h.t.Helper()
	p = h.connects()
	f = binary(1, h.cfg.BufferSize/2)
	all := masked(f)
	half := min(len(all)/2, 5000)
	p.sends(all[:half])
	h.until("somebody has a spare block", func() bool {
		return slices.ContainsFunc(h.workers, func(w *worker) bool { return w.conns.store.spareOwner != nil })
	})
	return p, all[half:], f
}

// queuesUp sends messages and does not read, until the kernel at our end still
// counts as writable, but has not room for as much as a frame. It says what was sent.
func (p *peer) queuesUp() (sent []ws.Frame) {
	p.h.t.Helper()
	_, fd := p.slot()
	for queued := 0; queued < kernelRoom/2; {
		f := binary(len(sent), 4000)
		p.sends(masked(f))
		p.h.settles()
		sent = append(sent, f)
		var err error
		if queued, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ); err != nil {
			p.h.t.Fatal(err)
		}
	}
	if !netpoll.Writable(fd) {
		p.h.t.Fatal("too much has been sent")
	}
	return sent
}

// wantsMessages waits for the echo of messages, in whatever fragments.
func (p *peer) wantsMessages(why string, frames ...ws.Frame) {
	p.h.t.Helper()
	for i, f := range frames {
		if f.Header.OpCode == ws.OpPing {
			continue
		}
		p.wantsMessage(fmt.Sprintf("%s, message %d", why, i), f.Header.OpCode, f.Payload)
	}
}

// With many peers that each send half a frame, what is held stays within the
// budget, and others are echoed as ever.
func TestBudgetHoldsWithHalfFrames(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := opens(t, workers(n), bufferBudget(4*64<<10))
		witness := h.connects()
		type half struct {
			*peer
			frame ws.Frame
			rest  []byte
		}
		var halves []half
		for i := range 40 {
			f := binary(i, 30_000+1000*i%30_000)
			all := masked(f)
			p := h.connects()
			p.sends(all[:len(all)/2])
			halves = append(halves, half{p, f, all[len(all)/2:]})
			witness.alive("while halves gather")
			if most := (4 + n) * 64 << 10; h.held() > most {
				t.Fatalf("%d bytes are held, want at most %d", h.held(), most)
			}
		}
		h.settles()
		if h.count().LowMemoryTurns == 0 || h.held() < 4*64<<10/2 {
			t.Errorf("%d frugal turns, %d bytes held: the budget was not touched", h.count().LowMemoryTurns, h.held())
		}
		for _, p := range halves {
			p.sends(p.rest)
			witness.alive("while the other halves come")
		}
		for i, p := range halves {
			p.wantsMessages(fmt.Sprint("peer ", i), p.frame)
			p.alive("it goes on")
		}
		if h.held() != 0 {
			t.Errorf("%d bytes are held for nothing", h.held())
		}
	}
}

// With many peers that send and never read, the same; and when they read,
// everything arrives.
func TestBudgetHoldsWithPeersThatDoNotRead(t *testing.T) {
	for n, maxHeader := range map[int]int{1: 1 << 10, 2: 32 << 10} { // which is for requests, and not for frames
		h := opens(t, workers(n), bufferBudget(4*64<<10), func(cfg *Config) { cfg.Echo.MaxHeader = maxHeader })
		witness := h.connects()
		type silent struct {
			*peer
			frames []ws.Frame
			rest   []byte
		}
		var peers []*silent
		for i := range 20 {
			p := &silent{peer: h.reluctant(), frames: messages(500, 1000+100*i)}
			p.rest = p.stuffs(masked(p.frames...))
			peers = append(peers, p)
			witness.alive("while peers do not read")
			if most := (4 + n) * 64 << 10; h.held() > most {
				t.Fatalf("%d bytes are held, want at most %d", h.held(), most)
			}
		}
		if h.count().LowMemoryTurns == 0 {
			t.Errorf("%d bytes are held: the budget was not touched", h.held())
		}
		h.wantsEnded(nil)
		for i, p := range peers {
			p.until("all is sent", func() bool { p.rest = p.sendsSome(p.rest); return len(p.rest) == 0 })
			p.wantsMessages(fmt.Sprint("peer ", i), p.frames...)
			witness.alive("while peers read")
			p.alive("it goes on")
		}
		if h.held() != 0 {
			t.Errorf("%d bytes are held for nothing", h.held())
		}
	}
}

func TestSpareBlockReturns(t *testing.T) {
	h := opens(t)
	givesBack := h.spends()
	defer givesBack()
	hoarder, rest, f := h.hoarder()
	witness := h.connects()
	before := h.count().LowMemoryTurns
	witness.alive("in a frugal turn")
	if h.count().LowMemoryTurns == before {
		t.Error("the turn was not frugal")
	}
	hoarder.sends(rest)
	hoarder.wantsMessages("cut through", f)
	h.settles()
	before = h.count().LowMemoryTurns
	witness.alive("in a full turn")
	h.wantsCount("frugal turns", h.count().LowMemoryTurns, before)
}

// A peer that sends half a frame and then nothing more keeps the spare block
// only as long as there is no other.
func TestSpareBlockReturnsWhenThereIsMemory(t *testing.T) {
	h := opens(t)
	givesBack := h.spends()
	hoarder, rest, f := h.hoarder()
	witness := h.connects()
	witness.alive("in a frugal turn")
	givesBack()
	before := h.count().LowMemoryTurns
	witness.alive("in a full turn")
	h.wantsCount("frugal turns", h.count().LowMemoryTurns, before)
	hoarder.sends(rest)
	hoarder.wantsEcho("its frame is whole", f)
}

func TestHandshakeInFrugalTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	p := h.dials()
	for i := range request {
		p.sends([]byte(request[i : i+1]))
		h.pass()
	}
	p.wantsUpgrade()
	p.alive("byte by byte")
	q := h.dials()
	q.sends([]byte(request), masked(text("early"), text("bird")))
	q.wantsUpgrade()
	q.wantsEcho("what followed the request", text("early"), text("bird"))
	h.wantsEnded(nil)
}

// A request that was long before turns became frugal may become longer.
func TestLongHandshakeThatBeganBeforeFrugalTurns(t *testing.T) {
	for _, began := range []int{100, 1000, 1100, 2000, 4000, 7000} {
		h := opens(t)
		p := h.dials()
		long := request[:len(request)-2] + "X-Padding: " + string(make([]byte, 0, 7500))
		for len(long) < 8000 {
			long += "x"
		}
		long += "\r\n\r\n"
		p.sends([]byte(long[:began]))
		h.settles()
		givesBack := h.spends()
		h.hoarder()
		p.sends([]byte(long[began : len(long)-1]))
		p.wantsNothing("it is not whole")
		p.sends([]byte(long[len(long)-1:]), masked(text("hello")))
		p.wantsUpgrade()
		p.wantsEcho("what followed the request", text("hello"))
		givesBack()
	}
}

func TestRefusalInFrugalTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.1\r\nX-Padding: "), make([]byte, 0), []byte(request)[:30])
	p.wantsNothing("it is not whole")
	p.ends()
	p.wantsFIN("it never will be")
	q := h.dials()
	q.sends([]byte("hello, is this SMTP?\r\n"))
	q.wantsStatus("garbage", 400)
	r := h.dials()
	r.sends([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	r.wantsStatus("no upgrade", 426)
}

func TestControlFrameInPiecesInFrugalTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	p := h.connects()
	for _, b := range masked(ping("is it long enough?"), text("hi"), ping("")) {
		p.sends([]byte{b})
		h.pass()
	}
	p.wantsEcho("the ping", ping("is it long enough?"))
	p.wantsMessages("the text, cut through", text("hi"))
	p.wantsEcho("the other ping", ping(""))
	closes := masked(closing(1000))
	p.sends(closes[:7])
	p.wantsNothing("the close is not whole")
	p.sends(closes[7:])
	p.wantsEcho("the close", closing(1000))
	p.wantsFIN("and that was all")
}

// What is left in the kernel for want of memory is taken when there is some, without
// another edge and without any other deadline.
func TestStarvedIsLookedAtAgain(t *testing.T) {
	h := opens(t)
	givesBack := h.spends()
	h.hoarder()
	p := h.connects()
	half := masked(ping("is it long enough?"))
	p.sends(half[:9])
	h.settles()
	s, _ := p.slot()
	if !s.is(starved) {
		t.Fatal("it is not starved")
	}
	givesBack()
	h.later(late)
	h.settles()
	if s.is(starved) || len(h.workers[0].conns.store.rest(s)) != 9 {
		t.Errorf("there is memory, and %d bytes are held", len(h.workers[0].conns.store.rest(s)))
	}
	p.sends(half[9:])
	p.wantsEcho("it is whole", ping("is it long enough?"))
}

func TestEndInFrugalTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	for _, c := range []struct {
		name   string
		whole  []ws.Frame
		behind []byte
	}{
		{name: "nothing"},
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
	h.wantsEnded(map[Reason]uint64{Vanished: 4})
}

// What was held before turns became frugal may be more than the kernel takes
// at once. There is memory for it, for it is there.
func TestLongRestInFrugalTurns(t *testing.T) {
	for _, held := range []int{1100, 5000, 60_000, 200_000} {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			h := opens(t, bufferSize(256<<10))
			p := h.reluctant()
			before := p.queuesUp()
			f := binary(2, 250_000)
			all := masked(f)
			rest := p.sendsSome(all[:held])
			h.until("half a frame is held", func() bool {
				rest = p.sendsSome(rest)
				s, _ := p.slot()
				return len(rest) == 0 && len(h.workers[0].conns.store.rest(s)) == held
			})
			givesBack := h.spends()
			hoarder, others, of := h.hoarder()
			rest = p.stuffs(append(all[held:], masked(messages(500, 3000)...)...))
			h.wantsEnded(nil)
			p.until("all is sent", func() bool { rest = p.sendsSome(rest); return len(rest) == 0 })
			p.wantsMessages("everything", append(append(before, f), messages(500, 3000)...)...)
			hoarder.sends(others)
			hoarder.wantsMessages("everything", of)
			givesBack()
		})
	}
}

// A socket that counts as writable may still not take a whole reply. Without memory for the rest, the
// connection ends: its stream would go on out of step.
func TestReplyThatTheKernelTakesInPart(t *testing.T) {
	h := opensAt(t, []string{"unix:" + filepath.Join(t.TempDir(), "socket")})
	defer h.spends()()
	h.hoarder()
	witness := h.dialsAt(0).upgrades()
	p := h.dialsAt(0).upgrades()
	_, fd := p.slot()               // the last one, as peers on unix sockets have no names
	h.limits(fd, unix.SO_SNDBUF, 1) // the kernel makes 4608 of it
	p.sends(masked(text("a")))
	h.settles() // its echo is not read
	p.sends(masked(binary(1, 4000)))
	h.settles()
	if p.reads(); len(p.got) > 4000 {
		t.Skip("this kernel takes all of the reply")
	}
	h.wantsEnded(map[Reason]uint64{OutOfMemory: 1})
	witness.alive("the others")
}

// A block may be full to its last byte when turns become frugal.
func TestFullBlockInFrugalTurns(t *testing.T) {
	h := opens(t)
	p := h.connects()
	f := binary(1, 20_000)
	all := masked(f)
	const first, full = 1100, 4096 - echo.Headroom - echo.Tailroom
	p.sends(all[:first])
	h.settles()
	p.sends(all[first:full])
	h.settles()
	s, _ := p.slot()
	if mem := h.arena.Bytes(s.held); len(mem) != 4096 || len(h.workers[0].conns.store.rest(s)) != full {
		t.Fatalf("%d bytes are held in a block of %d", len(h.workers[0].conns.store.rest(s)), len(mem))
	}
	defer h.spends()()
	h.hoarder()
	p.sends(all[full:])
	p.wantsMessages("cut through", f)
	p.alive("it goes on")
}

// Whoever has the spare block itself is no worse off.
func TestHoarderInFrugalTurns(t *testing.T) {
	h := opens(t, bufferSize(256<<10))
	defer h.spends()()
	p := h.reluctant()
	before := p.queuesUp()
	f := binary(3, 250_000)
	rest := masked(append([]ws.Frame{f}, messages(500, 3000)...)...)
	rest = p.sendsSome(rest)
	h.until("it has the spare block", func() bool { return h.workers[0].conns.store.spareOwner != nil })
	rest = p.stuffs(rest)
	h.wantsEnded(nil)
	p.until("all is sent", func() bool { rest = p.sendsSome(rest); return len(rest) == 0 })
	p.wantsMessages("everything", append(append(before, f), messages(500, 3000)...)...)
}

func TestAdoptInFrugalTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()

	p := h.adopts(echo.Upgraded(), masked(text("early"), text("bird")))
	p.wantsEcho("what was read before", text("early"), text("bird"))
	p.alive("it goes on")

	f := binary(1, 3000)
	p = h.adopts(echo.Upgraded(), masked(f)[:1000])
	p.sends(masked(f)[1000:])
	p.wantsMessages("a frame that was read in part", f)

	p = h.adopts(echo.State{}, []byte(request[:50]))
	p.wantsStatus("there is nowhere to keep half a request", 503)

	p = h.adopts(echo.State{}, []byte(request))
	p.wantsUpgrade()
	p.alive("a whole one needs not be kept")
}

// A peer that does not read is not read from, and not sent a ping that could
// not be kept.
func TestIdlePeerThatDoesNotReadInFrugalTurns(t *testing.T) {
	h := opens(t, func(cfg *Config) { cfg.IdleTimeout, cfg.WriteTimeout = time.Minute, time.Hour })
	givesBack := h.spends()
	h.hoarder()
	p := h.reluctant()
	frames := messages(500, 3000)
	rest := p.stuffs(masked(frames...))
	h.later(30 * time.Second)
	h.wantsEnded(nil)
	p.until("all is sent", func() bool { rest = p.sendsSome(rest); return len(rest) == 0 })
	p.wantsMessages("everything", frames...)
	givesBack()
}

// Input that was read elsewhere is not in the kernel: if nothing of it can be kept, the connection ends, for its
// stream would go on out of step.
func TestAdoptedInputThatCannotBeKept(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	half := masked(ping("is there room?"))
	half = half[:len(half)-1]
	p := h.adopts(echo.Upgraded(), half)
	p.wantsFIN("there is no memory for half a ping")
	h.wantsEnded(map[Reason]uint64{OutOfMemory: 1})

	p = h.adopts(echo.State{}, []byte(request[:30]))
	p.wantsStatus("nor for half a request", 503)
}
