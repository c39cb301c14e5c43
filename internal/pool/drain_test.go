package pool

import (
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
)

// drains begins a drain in every worker, as Shutdown does.
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
	h := newHarness(t, workers(2))
	idle, talking, unfinished, silent, asking := h.connects(), h.connects(), h.connects(), h.dials(), h.dials()
	unfinished.sends(masked(text("half"))[:7])
	asking.sends([]byte(request[:30]))
	h.runsUntilIdle()
	frames := messages(3, 15_000)
	talking.sends(masked(frames...))
	talking.waitsForDelivery()
	h.drains(10 * time.Second)

	idle.wantsClose("idle connection", 1001)
	talking.wantsEcho("echo of what was sent before the drain", frames...)
	talking.wantsClose("after the echo", 1001)
	unfinished.wantsClose("in the middle of a frame", 1001)
	silent.wantsStatus("without a request", 503)
	asking.wantsStatus("with an incomplete request", 503)

	idle.sends(masked(text("too late"), closing(1001)))
	idle.wantsFIN("after the close reply")
	talking.sends(masked(closing(1001)))
	talking.wantsFIN("after the close reply")
	unfinished.sends(masked(text("half"))[7:], masked(closing(1001)))
	unfinished.wantsFIN("after the rest of the frame and the close reply")
	for _, p := range []*peer{idle, talking, unfinished, silent, asking} {
		p.closes()
	}
	h.until("all have ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 5})
	h.wantsCount("closed with 1001", h.count().Codes[1001], 3)
	h.wantsCount("refused with 503", h.count().Codes[503], 2)
}

// A connection that was on its way to a worker when the drain began is treated like the open ones.
// So a restart behind a socket that stays open, as with systemd, refuses no request.
func TestDrainAnswersArrivals(t *testing.T) {
	h := newHarness(t)
	h.workers[0].mail.post(message{do: func(w *worker) { w.acceptor.ignore(); w.beginDrain(soon) }})
	asked, read, silent := h.adopts(echo.State{}, nil), h.adopts(echo.State{}, []byte(request)), h.adopts(echo.State{}, nil)
	asked.sends([]byte(request), masked(text("and spoken")))
	h.draining.Store(true)
	for _, l := range h.listeners {
		t.Cleanup(l.Close)
	}
	h.pass()

	asked.wantsUpgrade()
	asked.wantsEcho("echo of what was sent before", text("and spoken"))
	read.wantsUpgrade()
	for _, p := range []*peer{asked, read} {
		p.wantsClose("after the response", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("after the close reply")
	}
	silent.wantsStatus("without a request", 503)
}

// A worker without connections drains and ends at once. A worker that has not received the message
// to drain yet keeps the connections that it would have handed to that worker.
func TestArrivalForDrainedWorkerStaysWithAcceptingWorker(t *testing.T) {
	h := newHarness(t, workers(2))
	ended := h.workers[1]
	ended.acceptor.ignore()
	first := h.connects()
	if !ended.mail.closeIfEmpty() {
		t.Fatal("closeIfEmpty is false, want an empty mailbox")
	}
	second := h.connects() // which would be the ended worker's
	for _, p := range []*peer{first, second} {
		p.sends(masked(text("hello")))
		p.wantsEcho("echo from the other worker", text("hello"))
	}
	h.wantsCount("refused", h.count().RefusedDraining, 0)
}

// When the timeout is over, the connections of peers that have not answered are closed.
func TestDrainTimeout(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.CloseTimeout = time.Hour })
	p, q := h.connects(), h.connectsWithSmallBuffers()
	q.sendsUntilBlocked(masked(messages(500, 3000)...))
	h.drains(3 * time.Second)
	p.wantsClose("idle connection", 1001)
	h.advances(3*time.Second - late)
	h.wantsEnded(nil)
	h.advances(2 * late)
	p.wantsFIN("after the timeout")
	h.wantsEnded(map[Reason]uint64{CutByShutdown: 2})
}

// A slow reader receives its whole backlog before the close frame.
func TestDrainSendsBacklogFirst(t *testing.T) {
	for _, lowMemory := range []bool{false, true} {
		h := newHarness(t)
		if lowMemory {
			defer h.exhaustsBudget()()
			h.takesSpareBlock()
		}
		p := h.connectsWithSmallBuffers()
		frames := messages(500, 3000)
		all := masked(frames...)
		sent := len(all) - len(p.sendsUntilBlocked(all))
		unarrived, err := unix.IoctlGetInt(p.fd, unix.TIOCOUTQ)
		if err != nil {
			t.Fatal(err)
		}
		h.drains(time.Hour)
		for range 3 * drainTurns {
			h.pass() // the peer does not read meanwhile
		}
		whole := (sent - unarrived) / len(masked(frames[0]))
		p.wantsMessages("echo of what had arrived", frames[:whole]...)
		f := p.frame("after the echo")
		for f.Header.OpCode != ws.OpClose {
			f = p.frame("close frame after the echo of later input")
		}
		if code, _ := ws.ParseCloseFrameData(f.Payload); code != 1001 {
			t.Errorf("got close code %d, want 1001", code)
		}
	}
}

// At half of the timeout, a slow reader is sent a close frame after the echoes that it has not read
// yet. Its later input is ignored.
func TestDrainClosesSlowReadersAtHalfOfTimeout(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithSmallBuffers()
	p.sendsUntilBlocked(masked(messages(500, 3000)...))
	h.drains(10 * time.Second)
	h.advances(5*time.Second - late)
	s, _ := p.slot()
	if phase := s.proto.Phase(); phase != echo.Open {
		t.Fatalf("got phase %d before half of the timeout, want open", phase)
	}
	h.advances(2 * late)
	backlog := h.count().Echo.FramesOut[ws.OpBinary]
	for range backlog {
		if f := p.frame("unread echo"); f.Header.OpCode != ws.OpBinary {
			t.Fatalf("got opcode %x, want a binary frame", f.Header.OpCode)
		}
	}
	p.wantsClose("after the unread echoes", 1001)
	p.wantsNothing("after the close frame")
}

// A peer that never stops sending is sent a close frame, too.
func TestDrainClosesFloodingPeer(t *testing.T) {
	h := newHarness(t, bufferSize(4096))
	p := h.connects()
	frame := masked(text("and on"))
	flood := make([]byte, 0, 1<<20)
	for len(flood) < 1<<20-len(frame) {
		flood = append(flood, frame...)
	}
	_, fd := p.slot()
	remaining := p.sendsSome(flood)
	h.drains(time.Hour)
	h.until("the peer receives a close frame", func() bool {
		// The peer keeps sending, so that there is always more input than a pass reads.
		for range 1000 {
			if len(remaining) == 0 {
				remaining = flood
			}
			remaining = p.sendsSome(remaining)
			if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil || waiting > 3*4096 {
				break
			}
		}
		p.reads()
		closed := len(p.got) > 4 && h.count().Echo.FramesOut[8] == 1
		if !closed {
			p.got = nil
		}
		return closed
	})
}

func TestDrainRacesWithArrivals(t *testing.T) {
	h := newHarness(t, workers(2))
	accepted, adopted := h.dials(), h.adopts(echo.Upgraded(), masked(text("early")))
	// One worker accepts for both; its message to the other may follow the message to drain.
	h.drains(10 * time.Second)
	adopted.wantsEcho("echo of what was already read", text("early"))
	adopted.wantsClose("after the echo", 1001)
	h.runsUntilIdle()
	accepted.closes() // it may still be in the backlog
}

func TestShutdown(t *testing.T) {
	h := newHarness(t, workers(3)).starts()
	var peers []*peer
	for range 10 {
		peers = append(peers, h.connects())
	}
	var shutting sync.WaitGroup
	for range 3 { // repeated calls wait, too
		shutting.Go(func() { h.Shutdown(soon) })
	}
	for _, p := range peers {
		p.wantsClose("open connection", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("after the close reply")
		p.closes()
	}
	shutting.Wait()
	h.Shutdown(soon)
	h.wantsEnded(map[Reason]uint64{Completed: 10})
	if h.workers[0].mail.post(message{}) {
		t.Error("post to an ended worker is true, want false")
	}
}

// Shutdown closes a listener once: later its descriptor may have been reused.
func TestShutdownTwiceClosesListenersOnce(t *testing.T) {
	h := newHarness(t).starts()
	fd := h.listeners[0].FD
	h.Shutdown(soon)
	if err := unix.Dup3(1, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	h.Shutdown(soon)
	if err := unix.Close(fd); err != nil {
		t.Errorf("the second Shutdown closed a reused descriptor: %v", err)
	}
}

// A message that is posted while a worker ends is either read or refused, and never wakes a closed
// poller.
func TestPostRacesWithShutdown(t *testing.T) {
	for range 50 {
		h := newHarness(t, workers(2)).starts()
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
