package pool

import (
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
)

// drains asks the workers to drain, as Shutdown does.
func (h *harness) drains(timeout time.Duration) {
	h.t.Helper()
	h.draining.Store(true)
	for _, w := range h.workers {
		w.mail.post(message{do: func(w *worker) { w.acceptor.ignore(); w.beginDrain(timeout) }})
	}
	h.t.Cleanup(func() {
		for _, l := range h.listeners {
			l.Close()
		}
	})
	h.pass()
}

func TestDrain(t *testing.T) {
	h := opens(t, workers(2))
	idle, talking, unfinished, silent, asking := h.connects(), h.connects(), h.connects(), h.dials(), h.dials()
	unfinished.sends(masked(text("half"))[:7])
	asking.sends([]byte(request[:30]))
	h.settles()
	frames := messages(3, 15_000)
	talking.sends(masked(frames...))
	talking.arrives()
	h.drains(10 * time.Second)

	idle.wantsClose("goodbye", 1001)
	talking.wantsEcho("what it had sent before", frames...)
	talking.wantsClose("then goodbye", 1001)
	unfinished.wantsClose("goodbye in the middle of a frame", 1001)
	silent.wantsStatus("it has not asked", 503)
	asking.wantsStatus("it has not finished asking", 503)

	idle.sends(masked(text("too late"), closing(1001)))
	idle.wantsFIN("it has answered")
	talking.sends(masked(closing(1001)))
	talking.wantsFIN("it has answered")
	unfinished.sends(masked(text("half"))[7:], masked(closing(1001)))
	unfinished.wantsFIN("it has finished its frame and answered")
	for _, p := range []*peer{idle, talking, unfinished, silent, asking} {
		p.closes()
	}
	h.until("all have ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 5})
	h.wantsCount("closed with 1001", h.count().Codes[1001], 3)
	h.wantsCount("refused with 503", h.count().Codes[503], 2)
}

// A connection that another worker had accepted, and that was on its way when the drain began,
// gets what those had that were there: who restarts the server behind a listener that stays open
// turns nobody away who has asked.
func TestArrivalsWhileDraining(t *testing.T) {
	h := opens(t)
	h.workers[0].mail.post(message{do: func(w *worker) { w.acceptor.ignore(); w.beginDrain(soon) }})
	asked, read, silent := h.adopts(echo.State{}, nil), h.adopts(echo.State{}, []byte(request)), h.adopts(echo.State{}, nil)
	asked.sends([]byte(request), masked(text("and spoken")))
	h.draining.Store(true)
	for _, l := range h.listeners {
		t.Cleanup(l.Close)
	}
	h.pass()

	asked.wantsUpgrade()
	asked.wantsEcho("what it had sent", text("and spoken"))
	read.wantsUpgrade()
	for _, p := range []*peer{asked, read} {
		p.wantsClose("then goodbye", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("it has answered")
	}
	silent.wantsStatus("it has not asked", 503)
}

// A worker that nobody is connected to has drained at once. What another accepts that has not heard
// of the drain yet is not turned away because it would have been that one's.
func TestArrivalsForAWorkerThatHasDrained(t *testing.T) {
	h := opens(t, workers(2))
	gone := h.workers[1]
	gone.acceptor.ignore()
	first := h.connects()
	if !gone.mail.closeIfEmpty() {
		t.Fatal("there are messages for it")
	}
	second := h.connects() // whose turn it would be
	for _, p := range []*peer{first, second} {
		p.sends(masked(text("hello")))
		p.wantsEcho("from the one that is left", text("hello"))
	}
	h.wantsCount("refused", h.count().RefusedDraining, 0)
}

// A peer that never answers is cut off when the time is over.
func TestDrainTimeout(t *testing.T) {
	h := opens(t, func(cfg *Config) { cfg.CloseTimeout = time.Hour })
	p, q := h.connects(), h.reluctant()
	q.stuffs(masked(messages(500, 3000)...))
	h.drains(3 * time.Second)
	p.wantsClose("goodbye", 1001)
	h.later(3*time.Second - late)
	h.wantsEnded(nil)
	h.later(2 * late)
	p.wantsFIN("it has not answered")
	h.wantsEnded(map[Reason]uint64{CutByShutdown: 2})
}

// A peer that is behind with reading gets what it is owed before it is told.
func TestDrainBehindABacklog(t *testing.T) {
	for _, lowMemory := range []bool{false, true} {
		h := opens(t)
		if lowMemory {
			defer h.spends()()
			h.spareOwner()
		}
		p := h.reluctant()
		frames := messages(500, 3000)
		all := masked(frames...)
		sent := len(all) - len(p.stuffs(all))
		unarrived, err := unix.IoctlGetInt(p.fd, unix.TIOCOUTQ)
		if err != nil {
			t.Fatal(err)
		}
		h.drains(time.Hour)
		for range 3 * drainTurns {
			h.pass() // it takes its time
		}
		whole := (sent - unarrived) / len(masked(frames[0]))
		p.wantsMessages("what had arrived", frames[:whole]...)
		f := p.frame("the end of it")
		for f.Header.OpCode != ws.OpClose {
			f = p.frame("what arrived meanwhile, and in the end goodbye")
		}
		if code, _ := ws.ParseCloseFrameData(f.Payload); code != 1001 {
			t.Errorf("closed with %d", code)
		}
	}
}

// A peer that is still behind when half of the time is over is told behind what
// it has not read yet, and what it sent after that is read past.
func TestDrainHurries(t *testing.T) {
	h := opens(t)
	p := h.reluctant()
	p.stuffs(masked(messages(500, 3000)...))
	h.drains(10 * time.Second)
	h.later(5*time.Second - late)
	s, _ := p.slot()
	if phase := s.proto.Phase(); phase != echo.Open {
		t.Fatalf("phase %d before half of the time is over", phase)
	}
	h.later(2 * late)
	backlog := h.count().Echo.FramesOut[ws.OpBinary]
	for range backlog {
		if f := p.frame("what it has not read yet"); f.Header.OpCode != ws.OpBinary {
			t.Fatalf("opcode %x", f.Header.OpCode)
		}
	}
	p.wantsClose("goodbye behind that", 1001)
	p.wantsNothing("nothing comes after a close")
}

// A peer that never stops sending is told all the same.
func TestDrainFlood(t *testing.T) {
	h := opens(t, bufferSize(4096))
	p := h.connects()
	frame := masked(text("and on"))
	flood := make([]byte, 0, 1<<20)
	for len(flood) < 1<<20-len(frame) {
		flood = append(flood, frame...)
	}
	_, fd := p.slot()
	rest := p.sendsSome(flood)
	h.drains(time.Hour)
	h.until("it is told", func() bool {
		// There is always more than a pass reads, as far as TCP lets it through.
		for range 1000 {
			if len(rest) == 0 {
				rest = flood
			}
			rest = p.sendsSome(rest)
			if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil || waiting > 3*4096 {
				break
			}
		}
		p.reads()
		told := len(p.got) > 4 && h.count().Echo.FramesOut[8] == 1
		if !told {
			p.got = nil
		}
		return told
	})
}

func TestConnectionsThatArriveWhileDraining(t *testing.T) {
	h := opens(t, workers(2))
	accepted, adopted := h.dials(), h.adopts(echo.Upgraded(), masked(text("early")))
	// One worker accepts for both; its message to the other may be behind the one that says drain.
	h.drains(10 * time.Second)
	adopted.wantsEcho("what was read", text("early"))
	adopted.wantsClose("then goodbye", 1001)
	h.settles()
	accepted.closes() // in the backlog still, perhaps
}

func TestShutdown(t *testing.T) {
	h := opens(t, workers(3)).starts()
	var peers []*peer
	for range 10 {
		peers = append(peers, h.connects())
	}
	var shutting sync.WaitGroup
	for range 3 { // once is enough
		shutting.Go(func() { h.Shutdown(soon) })
	}
	for _, p := range peers {
		p.wantsClose("goodbye", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("it has answered")
		p.closes()
	}
	shutting.Wait()
	h.Shutdown(soon)
	h.wantsEnded(map[Reason]uint64{Completed: 10})
	if h.workers[0].mail.post(message{}) {
		t.Error("a worker that has ended takes messages")
	}
}

// A listener is closed once: its descriptor may be somebody else's by the
// second time.
func TestShutdownTwiceClosesListenersOnce(t *testing.T) {
	h := opens(t).starts()
	fd := h.listeners[0].FD
	h.Shutdown(soon)
	if err := unix.Dup3(1, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	h.Shutdown(soon)
	if err := unix.Close(fd); err != nil {
		t.Errorf("somebody else's descriptor was closed: %v", err)
	}
}

// Who writes a message while the last worker ends either has it read or is told
// that it is not; nobody wakes a poller that has been closed.
func TestMessagesWhileTheWorkersEnd(t *testing.T) {
	for range 50 {
		h := opens(t, workers(2)).starts()
		var writing sync.WaitGroup
		for range 4 {
			writing.Go(func() {
				for !h.draining.Load() {
					h.Snapshot(t.Context())
				}
				h.Snapshot(t.Context())
			})
		}
		h.Shutdown(soon)
		h.closes()
		writing.Wait()
	}
}
