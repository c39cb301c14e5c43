package pool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

func workers(n int) func(*Config)      { return func(cfg *Config) { cfg.Workers = n } }
func bufferSize(n int) func(*Config)   { return func(cfg *Config) { cfg.BufferSize = n } }
func bufferBudget(n int) func(*Config) { return func(cfg *Config) { cfg.BufferBudget = n } }
func maxConns(n int) func(*Config)     { return func(cfg *Config) { cfg.MaxConns = n } }

func TestEchoOverEveryKindOfSocket(t *testing.T) {
	addrs := []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")}
	if l, err := netpoll.Listen("[::1]:0"); err == nil {
		l.Close()
		addrs = append(addrs, "[::1]:0")
	}
	h := newHarnessAt(t, addrs)
	for i, addr := range addrs {
		p := h.dialsAt(i).upgrades()
		frames := []ws.Frame{text("hello"), binary(1, 300), ping("?"), binary(2, 60_000), text("")}
		p.sends(masked(frames...))
		p.wantsEcho(addr, frames...)
		p.sends(masked(closing(1000)))
		p.wantsEcho(addr+": close reply", closing(1000))
		p.wantsFIN(addr + ": server's FIN first")
	}
}

// Frames that arrive together are answered in one turn, with one event.
func TestFramesThatArriveTogetherLeaveTogether(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	frames := messages(16, 100)
	p.sends(masked(frames...))
	before := h.count()
	h.until("the connection has had its turn", func() bool { return h.count().BytesIn > before.BytesIn })
	p.wantsEcho("echo of all frames", frames...)
	h.wantsCount("events", h.count().Events-before.Events, 1)
}

// Frames in the same segment as the request are echoed. Most servers lose them.
func TestFramesBehindTheRequestAreEchoed(t *testing.T) {
	h := newHarness(t)
	p := h.dials()
	p.sends([]byte(request), masked(text("early"), ping("bird")))
	p.wantsUpgrade()
	p.wantsEcho("echo of frames in the request's segment", text("early"), ping("bird"))
	p.wantsAlive("after that")
	h.wantsCount("upgraded", h.count().Upgraded, 1)
}

func TestUpgradeAndCloseInOneSegmentCountsAsUpgrade(t *testing.T) {
	h := newHarness(t)
	p := h.dials()
	p.sends([]byte(request), masked(text("hello"), closing(1000)))
	p.wantsUpgrade()
	p.wantsEcho("echo of frames in the request's segment", text("hello"), closing(1000))
	p.wantsFIN("after the close reply")
	q := h.dials()
	q.sends([]byte("POST / HTTP/1.1\r\nHost: a\r\n\r\n"))
	q.wantsStatus("POST", 405)
	h.wantsCount("upgraded", h.count().Upgraded, 1)
}

func TestRequestByteByByte(t *testing.T) {
	h := newHarness(t)
	p := h.dials()
	for i := range request {
		p.sends([]byte(request[i : i+1]))
		h.pass()
	}
	p.wantsUpgrade()
	p.wantsAlive("after a request byte by byte")
}

func TestMessageBeforeFINIsEchoed(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		name   string
		frames []ws.Frame
		behind []byte
	}{
		{name: "no input"},
		{name: "a message", frames: []ws.Frame{text("last words")}},
		{name: "more than a turn", frames: messages(2, 60_000)},
		{name: "half a frame at the end", frames: []ws.Frame{text("last words")}, behind: masked(text("unfinished"))[:9]},
		{name: "half a header at the end", frames: []ws.Frame{text("last words")}, behind: []byte{0x81}},
	} {
		p := h.connects()
		p.sends(masked(c.frames...), c.behind)
		p.ends() // often in the same edge
		p.wantsEcho(c.name, c.frames...)
		p.wantsFIN(c.name + ": after the echo")
	}
	h.until("all have ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Disconnected: 5})
}

// A FIN that arrives after all input has been read is reported by an edge of its own.
func TestFINAfterAllInput(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	p.wantsAlive("before the peer's FIN")
	h.runsUntilIdle()
	p.ends()
	p.wantsFIN("after the peer's FIN")
	h.wantsEnded(map[Reason]uint64{Disconnected: 1})
}

func TestResetAtEveryStage(t *testing.T) {
	h := newHarness(t)
	witness := h.connects()
	for _, c := range []struct {
		stage string
		comes func() *peer
		want  Reason
	}{
		{"before any input", func() *peer { return h.dials() }, Broken},
		{"in the request", func() *peer { p := h.dials(); p.sends([]byte(request[:40])); return p }, Broken},
		{"after the request", func() *peer { p := h.dials(); p.sends([]byte(request)); return p }, Broken},
		{"open", h.connects, Broken},
		{"in a frame", func() *peer { p := h.connects(); p.sends(masked(binary(1, 5000))[:3000]); return p }, Broken},
		{"with a backlog", func() *peer {
			p := h.connectsWithSmallBuffers()
			p.sendsUntilBlocked(masked(messages(500, 3000)...))
			return p
		}, Broken},
		{"after the server's close frame", func() *peer {
			p := h.connects()
			s, fd := p.slot()
			h.workers[0].conns.goodbye(conn{fd, s}, "test")
			p.wantsClose("close frame", 1001)
			return p
		}, Broken},
		{"after the close handshake", func() *peer {
			p := h.connects()
			p.sends(masked(closing(1000)))
			p.wantsEcho("close reply", closing(1000))
			return p
		}, Completed},
	} {
		before := h.count()
		p := c.comes()
		h.runsUntilIdle()
		p.resets()
		h.until(c.stage, func() bool { return h.conns() == 1 })
		after := h.count()
		h.wantsCount(fmt.Sprintf("%s: ended with reason %q", c.stage, c.want), after.Ended[c.want]-before.Ended[c.want], 1)
		witness.wantsAlive(c.stage)
	}
}

// A peer that floods the worker gets one read per turn. Other peers are answered within two passes.
func TestFloodDoesNotStarveOthers(t *testing.T) {
	h := newHarness(t, bufferSize(4096))
	floods, witness := []*peer{h.connects(), h.connects(), h.connects()}, h.connects()
	flood := masked(messages(1000, 1000)...)
	remaining := make([][]byte, len(floods))
	w := h.workers[0]
	flooded := 0
	for round := range 50 {
		for i, p := range floods {
			if len(remaining[i]) == 0 {
				remaining[i] = flood
			}
			remaining[i] = p.sendsSome(remaining[i])
		}
		before := w.conns.count.BytesIn
		witness.sends(masked(text("hello")))
		h.pass()
		h.pass()
		flooded = max(flooded, len(w.conns.queue))
		witness.reads()
		if want := echoed(text("hello")); len(witness.got) != len(want) {
			t.Fatalf("round %d: the witness has no echo after two passes", round)
		}
		witness.takes(len(witness.got))
		// Each has one turn for its event and one from the queue.
		if most := uint64(2 * 2 * len(floods) * 4096); w.conns.count.BytesIn-before > most {
			t.Fatalf("round %d: two passes read %d bytes, want at most %d", round, w.conns.count.BytesIn-before, most)
		}
		for _, p := range floods {
			p.reads()
			p.got = nil
		}
	}
	if flooded < len(floods) {
		t.Errorf("at most %d peers had more input at once, want all: the test shows nothing", flooded)
	}
}

// Even with a large buffer a turn reads at most turnBytes, unless it is inside a long frame.
func TestTurnReadsAtMostTurnBytes(t *testing.T) {
	h := newHarness(t, bufferSize(256<<10))
	w := h.workers[0]
	for _, c := range []struct {
		why         string
		frames      []ws.Frame
		least, most int
	}{
		{"many short frames", messages(400, 1000), 0, turnBytes},
		{"one long frame", messages(1, 240_000), turnBytes + 1, 256 << 10},
	} {
		p := h.connects()
		h.runsUntilIdle()
		s, fd := p.slot()
		all := masked(c.frames...)
		p.sends(all[:5000])
		h.runsUntilIdle()
		before, longest := s.bytes, 0
		h.limits(fd, unix.SO_RCVBUF, 1<<20)
		p.sends(all[5000:])
		for end := time.Now().Add(soon); time.Now().Before(end); {
			if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil || waiting > turnBytes+10_000 {
				break
			}
		}
		for end := time.Now().Add(soon); s.bytes < before+uint64(len(all)-5000) && time.Now().Before(end); p.reads() {
			if w.conns.store.hasUnsent(s) {
				w.conns.drainBacklog(conn{fd, s})
				continue
			}
			at := s.bytes
			s.set(unread)
			w.conns.turn(conn{fd, s})
			longest = max(longest, int(s.bytes-at))
		}
		if longest < c.least || longest > c.most {
			t.Errorf("%s: the longest turn read %d bytes, want %d to %d", c.why, longest, c.least, c.most)
		}
		p.wantsEcho(c.why, c.frames...)
	}
}

// A connection whose turn has filled the buffer continues without another edge.
func TestConnectionContinuesAfterFullBuffer(t *testing.T) {
	h := newHarness(t, bufferSize(2048))
	p := h.connects()
	frames := messages(100, 1000)
	p.sends(masked(frames...))
	p.wantsEcho("echo of all messages", frames...)
}

// A read may fill the buffer with exactly the last byte of the input.
func TestReadThatFillsTheBufferExactly(t *testing.T) {
	const size = 2048
	h := newHarness(t, bufferSize(size))
	p := h.connects()
	room := size - 64 - 512
	for _, n := range []int{room - 1, room, room + 1, 2*room - 1, 2 * room, 2*room + 1} {
		frames := messages(n/408-1, 400)
		frames = append(frames, binary(n, n-len(masked(frames...))-8))
		if got := len(masked(frames...)); got != n {
			t.Fatalf("the frames have %d bytes, want %d", got, n)
		}
		p.sends(masked(frames...))
		p.wantsEcho("echo of all messages", frames...)
		p.wantsNothing("after the echo")
	}
}

// An event for a connection that ended after the event was reported is ignored, even if another
// connection has its descriptor by now.
func TestStaleEventIsIgnored(t *testing.T) {
	h := newHarness(t)
	old := h.connects()
	h.runsUntilIdle()
	before := h.count().Events
	s, fd := old.slot()
	gen := s.gen
	h.workers[0].mail.post(message{do: func(w *worker) { // messages are handled before events
		w.conns.end(conn{fd, s}, Broken)
		w.accept(h.listeners[0].FD)
	}})
	next := h.dials()
	old.sends(masked(text("to the old one")))
	h.until("the events of both connections are handled", func() bool { return h.count().Events >= before+2 })
	if s, now := next.slot(); now != fd || s.gen == gen {
		t.Fatalf("the new connection has descriptor %d, generation %d, want descriptor %d and another generation than %d", now, s.gen, fd, gen)
	}
	h.wantsCount("stale events", h.count().StaleEvents, 1)
	next.upgrades()
	next.wantsAlive("after the stale event")
}

// An entry in the queue of a connection that has ended is ignored, even if another connection has
// its descriptor by now.
func TestStaleQueueEntryIsIgnored(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	h.runsUntilIdle()
	s, fd := p.slot()
	next := h.dials()
	w := h.workers[0]
	w.conns.goOn(conn{fd, s})
	w.conns.end(conn{fd, s}, Broken)
	next.upgrades()
	if _, now := next.slot(); now != fd {
		t.Fatalf("the new connection has descriptor %d, want %d", now, fd)
	}
	next.wantsAlive("after the stale entry")
}

// A worker does not access a slot that belongs to another worker by now. The race detector checks
// this.
func TestStaleQueueEntryOfAnotherWorkerIsIgnored(t *testing.T) {
	h := newHarness(t, workers(2))
	old := h.connects()
	h.runsUntilIdle()
	s, fd := old.slot()
	ours, theirs := h.workers[0], h.workers[1]
	if !ours.conns.mine.has(fd) {
		ours, theirs = theirs, ours
	}
	next := h.dials()
	ours.conns.goOn(conn{fd, s})
	ours.conns.end(conn{fd, s}, Broken)
	ours.acceptor.ignore()
	ours.acceptor.resumeAt = h.time + ticks(time.Hour)
	var other sync.WaitGroup
	other.Go(func() {
		for theirs.conns.load.Load() == 0 {
			if err := theirs.pass(0); err != nil {
				t.Error(err)
			}
		}
	})
	if err := ours.pass(0); err != nil {
		t.Error(err)
	}
	other.Wait()
	if _, now := next.slot(); now != fd {
		t.Errorf("the new connection has descriptor %d, want %d", now, fd)
	}
	next.upgrades()
}

// The workers count exactly the bytes that peers have sent and received.
func TestBytesAreCounted(t *testing.T) {
	h := newHarness(t, workers(2), bufferSize(4096))
	var sent, received uint64
	for range 5 {
		p := h.dials()
		p.sends([]byte(request))
		received += uint64(len(p.head()))
		frames := []ws.Frame{text("hello"), binary(1, 3000), ping("?")}
		p.sends(masked(frames...))
		p.wantsEcho("echo of all frames", frames...)
		received += uint64(len(echoed(frames...)))
		sent += p.sent
	}
	c := h.count()
	h.wantsCount("bytes in", c.BytesIn, sent)
	h.wantsCount("bytes out", c.BytesOut, received)
	h.wantsCount("upgraded", c.Upgraded, 5)
	h.wantsCount("accepted", c.Accepted, 5)
	h.wantsCount("pings", c.Echo.FramesIn[ws.OpPing], 5)
	h.wantsCount("messages", c.Echo.Messages[ws.OpBinary], 5)
}

// loop sends a frame and reads its echo, without allocating memory.
func (p *peer) loop(frame, buffer []byte) {
	if n, err := netpoll.Send(p.fd, frame); n != len(frame) || err != nil {
		panic(err)
	}
	for got := 0; got < len(frame)-4; {
		p.h.pass()
		n, err := netpoll.Recv(p.fd, buffer)
		if err != nil {
			panic(err)
		}
		got += n
	}
}

func TestMessagesAllocateNothing(t *testing.T) {
	h := newHarness(t)
	buffer := make([]byte, 64<<10)
	for _, n := range []int{0, 100, 1000, 30_000} {
		p := h.connects()
		frame := masked(binary(1, n))
		if allocs := testing.AllocsPerRun(100, func() { p.loop(frame, buffer) }); allocs > 0 {
			t.Errorf("a message of %d bytes allocates %v times", n, allocs)
		}
		half := len(frame) / 2
		if allocs := testing.AllocsPerRun(100, func() {
			_, _ = netpoll.Send(p.fd, frame[:half])
			h.pass()
			p.loop(frame[half:], buffer[:len(frame)-4])
			_, _ = netpoll.Recv(p.fd, buffer)
		}); allocs > 0 {
			t.Errorf("a message of %d bytes in two halves allocates %v times", n, allocs)
		}
	}
}

// allocsPerConnection is the maximum number of allocations per connection from accept to close: for
// ws.Upgrader's reader and writer and for the request; one more with the race detector.
const allocsPerConnection = 3

func TestConnectionAllocates(t *testing.T) {
	h := newHarness(t)
	where, err := unix.Getsockname(h.listeners[0].FD)
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	frames, closes, upgrade := masked(text("hello")), masked(closing(1000)), []byte(request)
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.Connect(fd, where), netpoll.Prepare(fd)); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	theirs := testing.AllocsPerRun(100, func() {
		netpoll.Close(socket())
		h.pass()
		h.pass()
	})
	until := func(fd int, least int) {
		for n := 0; n < least; {
			h.pass()
			k, _ := netpoll.Recv(fd, buffer)
			n += k
		}
	}
	ours := testing.AllocsPerRun(100, func() {
		fd := socket()
		_, _ = netpoll.Send(fd, upgrade)
		until(fd, 129)
		_, _ = netpoll.Send(fd, frames)
		until(fd, len(frames)-4)
		_, _ = netpoll.Send(fd, closes)
		until(fd, len(closes)-4)
		netpoll.Close(fd)
		h.pass()
		h.pass()
	})
	t.Logf("%v allocations to connect and disconnect, %v to also accept, upgrade, echo and close", theirs, ours)
	if ours > theirs+allocsPerConnection {
		t.Errorf("a connection allocates %v times, want at most %d", ours-theirs, allocsPerConnection)
	}
}

// Several workers run in their own goroutines, and serve many connections at the same time.
func TestWorkersRun(t *testing.T) {
	h := newHarness(t, workers(4), bufferSize(8192)).starts()
	var talking sync.WaitGroup
	for i := range 8 {
		var peers []*peer
		for range 8 {
			p := h.dials()
			own := *h
			own.peers = nil
			p.h = &own
			peers = append(peers, p)
		}
		talking.Go(func() {
			for round := range 10 {
				for _, p := range peers {
					if round == 0 {
						p.upgrades()
					}
					frames := messages(i+round, 100*i+1)
					p.sends(masked(frames...))
					p.wantsEcho("echo of all messages", frames...)
				}
			}
			for _, p := range peers {
				p.sends(masked(closing(1000)))
				p.wantsEcho("close reply", closing(1000))
				p.wantsFIN("after the close reply")
			}
		})
	}
	talking.Wait()
	h.closesPeers()
	h.Shutdown(soon)
	h.wantsCount("completed", h.count().Ended[Completed], 64)
}

func BenchmarkTurn(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"128B", 128}, {"1KiB", 1024}, {"16KiB", 16 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			h := newHarness(b, bufferSize(256<<10))
			p := h.connects()
			frame, buffer := masked(binary(1, c.size)), make([]byte, 256<<10)
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			for b.Loop() {
				p.loop(frame, buffer)
			}
		})
	}
}

// BenchmarkTurnInHalves echoes a frame that arrives in two parts. The first part is held between
// them.
func BenchmarkTurnInHalves(b *testing.B) {
	h := newHarness(b, bufferSize(256<<10))
	p := h.connects()
	frame, buffer := masked(binary(1, 16<<10)), make([]byte, 256<<10)
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := netpoll.Send(p.fd, frame[:1<<10]); err != nil {
			b.Fatal(err)
		}
		h.pass()
		if _, err := netpoll.Send(p.fd, frame[1<<10:]); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < len(frame)-4; {
			h.pass()
			n, err := netpoll.Recv(p.fd, buffer)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}

func BenchmarkConnection(b *testing.B) {
	h := newHarness(b)
	b.ReportAllocs()
	for b.Loop() {
		p := h.connects()
		p.resets()
		h.peers = h.peers[:0]
		for end := time.Now().Add(soon); h.conns() > 0 && time.Now().Before(end); {
			h.pass()
		}
	}
}
