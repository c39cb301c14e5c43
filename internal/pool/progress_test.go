package pool

import (
	"runtime"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

func writeTimeout(d time.Duration) func(*Config) { return func(cfg *Config) { cfg.WriteTimeout = d } }

// connectsWithLargeBuffers connects a peer whose output the server's kernel buffers up to hundreds
// of kilobytes. The peer acknowledges much of it before the socket is writable again.
func (h *harness) connectsWithLargeBuffers() *peer {
	h.t.Helper()
	h.limits(h.listeners[0].FD, unix.SO_SNDBUF, 1<<20) // the kernel makes less of it: net.core.wmem_max
	h.limits(h.listeners[0].FD, unix.SO_RCVBUF, 4*kernelRoom)
	return h.dials().upgrades()
}

// unacknowledged returns the number of bytes that the peer has not acknowledged.
func (p *peer) unacknowledged() uint32 {
	p.h.t.Helper()
	_, fd := p.slot()
	return netpoll.Unacknowledged(fd)
}

// acknowledges reads until the server's kernel receives an acknowledgement, while no worker runs.
// It returns the number of acknowledged bytes.
func (p *peer) acknowledges() uint32 {
	p.h.t.Helper()
	_, fd := p.slot()
	before := netpoll.Unacknowledged(fd)
	var buffer [1024]byte
	for end := time.Now().Add(soon); time.Now().Before(end); runtime.Gosched() {
		n, err := netpoll.Recv(p.fd, buffer[:])
		if err != nil {
			p.h.t.Fatalf("got error %v before an acknowledgement", err)
		}
		p.got = append(p.got, buffer[:n]...)
		if now := netpoll.Unacknowledged(fd); now < before {
			return before - now
		}
	}
	p.h.t.Fatalf("timed out waiting for an acknowledgement of any of %d bytes", before)
	return 0
}

// queuesInKernel sends messages without reading, until much of their echo is unacknowledged but
// nothing is in the write backlog. It returns the messages.
func (p *peer) queuesInKernel() (sent []ws.Frame) {
	p.h.t.Helper()
	s, _ := p.slot()
	for p.unacknowledged() < 120_000 {
		f := binary(len(sent), 3000)
		p.sends(masked(f))
		p.h.runsUntilIdle()
		sent = append(sent, f)
	}
	if p.h.workers[0].conns.store.hasUnsent(s) {
		p.h.t.Fatal("there is a write backlog, want all output in the kernel")
	}
	return sent
}

// staysOpenWhileAcknowledging advances the clock by d while the peer acknowledges bytes once per
// every, and checks that the connection stays open.
func (p *peer) staysOpenWhileAcknowledging(d, every time.Duration) {
	p.h.t.Helper()
	open := p.h.conns()
	for passed := time.Duration(0); passed < d; passed += every {
		if p.unacknowledged() < 4096 {
			p.h.t.Fatalf("everything is acknowledged after %v, want more output", passed)
		}
		p.acknowledges()
		p.h.advances(every)
		if p.h.conns() != open {
			p.h.t.Fatalf("the connection was closed after %v: ended %v", passed, p.h.count().Ended)
		}
	}
}

// A peer that acknowledges bytes now and then stays connected, even if the socket does not become
// writable for much longer than the timeout.
func TestSlowReaderStaysConnected(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(5 * time.Second)
	written, since := h.count().BytesOut, h.time
	for h.count().BytesOut == written && h.time-since < ticks(10*h.cfg.WriteTimeout) {
		p.staysOpenWhileAcknowledging(20*time.Second, 20*time.Second)
	}
	if h.time-since <= ticks(h.cfg.WriteTimeout) {
		t.Errorf("the socket was writable after %v, want longer than the timeout: the test shows nothing", time.Duration(h.time-since)*tickTime)
	}
}

// A peer that reads nothing is disconnected after WriteTimeout, no matter how often it is examined.
func TestPeerThatReadsNothingTimesOut(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	for passed := time.Second; passed < h.cfg.WriteTimeout; passed += time.Second {
		h.advances(time.Second)
	}
	h.wantsEnded(nil)
	h.advances(time.Second + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// Bytes that the peer's kernel acknowledges at first, because its receive buffer has room, are no
// progress.
func TestFillingReceiveBufferIsNoProgress(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(time.Second / 5)
	p.acknowledges() // as if the receive buffer had room for more
	h.advances(2 * time.Second)
	h.advances(h.cfg.WriteTimeout - 2*time.Second - time.Second/5 - late)
	h.wantsEnded(nil)
	h.advances(2 * late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A peer that stops reading times out after at most twice the timeout.
func TestPeerThatStopsReadingTimesOut(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(5 * time.Second)
	p.staysOpenWhileAcknowledging(20*time.Second, 5*time.Second)
	h.advances(h.cfg.WriteTimeout - 5*time.Second - late)
	h.wantsEnded(nil)
	h.advances(h.cfg.WriteTimeout + 5*time.Second + 2*late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A peer that acknowledges less than minRate times out like one that reads nothing.
func TestReaderBelowMinRateTimesOut(t *testing.T) {
	h := newHarness(t, writeTimeout(4*time.Hour))
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(time.Hour)
	for hour := 2; hour < 4; hour++ {
		if acked := p.acknowledges(); acked > minRate/2*3600 {
			t.Skipf("%d bytes are acknowledged in one step, which is too much for this test", acked)
		}
		h.advances(time.Hour)
	}
	h.wantsEnded(nil)
	h.advances(time.Hour + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A large acknowledgement extends the next wait in proportion, since receivers open their window in
// steps.
func TestLargeAcknowledgementExtendsWait(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(5 * time.Second)
	var acked uint32
	for acked < minRate/2*45 { // enough for 45 s, of which 20 s will have passed
		acked += p.acknowledges()
	}
	h.advances(20 * time.Second)
	h.advances(h.cfg.WriteTimeout + 20*time.Second)
	h.wantsEnded(nil)
	h.advances(h.cfg.WriteTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A write backlog that shrinks is progress, too, without an examination.
func TestShrinkingBacklogIsProgress(t *testing.T) {
	h := newHarness(t, bufferSize(256<<10))
	p := h.connectsWithSmallBuffers()
	s, fd := p.slot()
	w := h.workers[0]
	p.fillsSendBuffer() // so that the kernel takes little of one long frame
	remaining := masked(binary(1, 200_000))
	h.until("there is a backlog", func() bool {
		remaining = p.sendsSome(remaining)
		return w.conns.store.hasUnsent(s)
	})
	h.advances(29 * time.Second)
	for !netpoll.Writable(fd) {
		p.acknowledges()
	}
	w.conns.drainBacklog(conn{fd, s})
	if !w.conns.store.hasUnsent(s) {
		t.Fatal("the kernel took all of the backlog, so the test shows nothing")
	}
	if s.since != h.time {
		t.Errorf("since is %d, want %d", s.since, h.time)
	}
	h.advances(29 * time.Second)
	h.wantsEnded(nil)
	h.advances(time.Second + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A connection that is parked, because there is no memory for a backlog, is treated in the same
// way.
func TestParkedSlowReaderStaysConnected(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p := h.connectsWithLargeBuffers()
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	s, _ := p.slot()
	if !s.is(parked) {
		t.Fatal("the connection is not parked")
	}
	since := h.time
	h.advances(5 * time.Second)
	for s.is(parked) && h.time-since < ticks(10*h.cfg.WriteTimeout) {
		p.staysOpenWhileAcknowledging(20*time.Second, 20*time.Second)
	}
	if h.time-since <= ticks(h.cfg.WriteTimeout) {
		t.Errorf("it was parked for %v, want longer than the timeout: the test shows nothing", time.Duration(h.time-since)*tickTime)
	}
	h.wantsEnded(nil)
}

// The close timeout does not apply while the peer still reads output before the close frame.
func TestCloseTimeoutWaitsForUnreadOutput(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	sent := p.queuesInKernel()
	s, fd := p.slot()
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	h.advances(4 * time.Second)
	p.staysOpenWhileAcknowledging(60*time.Second, 15*time.Second)
	p.wantsEcho("queued echo", sent...)
	p.wantsClose("after the queued echo", 1001)
	h.until("the close frame is acknowledged", func() bool { return p.unacknowledged() == 0 })
	h.advances(h.cfg.CloseTimeout - late)
	h.wantsEnded(nil)
	h.advances(h.cfg.CloseTimeout)
	h.wantsEnded(map[Reason]uint64{CloseTimedOut: 1})
}

// A peer that never reads the close frame has WriteTimeout, like any peer that does not read.
func TestUnreadCloseFrameTimesOut(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.queuesInKernel()
	s, fd := p.slot()
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	h.advances(h.cfg.CloseTimeout + late)
	h.wantsEnded(nil)
	h.advances(h.cfg.WriteTimeout - h.cfg.CloseTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// The linger timeout does not apply while the peer still reads output: closing then would reset the
// connection and destroy that output.
func TestLingerTimeoutWaitsForUnreadOutput(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	sent := p.queuesInKernel()
	p.sends(masked(closing(1000)))
	h.advances(time.Second)
	p.staysOpenWhileAcknowledging(60*time.Second, 15*time.Second)
	p.wantsEcho("queued echo", sent...)
	p.wantsEcho("close reply after the queued echo", closing(1000))
	p.wantsFIN("after the close reply")
	h.until("the close reply is acknowledged", func() bool { return p.unacknowledged() == 0 })
	h.advances(h.cfg.LingerTimeout)
	h.advances(h.cfg.LingerTimeout + late)
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestUnreadCloseReplyTimesOut(t *testing.T) {
	h := newHarness(t)
	p := h.connectsWithLargeBuffers()
	p.queuesInKernel()
	p.sends(masked(closing(1000)))
	h.advances(h.cfg.LingerTimeout + late)
	h.wantsEnded(nil)
	h.advances(h.cfg.WriteTimeout - h.cfg.LingerTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// The idle timeout does not apply while the peer still reads output before the ping.
func TestIdleTimeoutWaitsForUnreadOutput(t *testing.T) {
	h := newHarness(t, idleTimeout(9*time.Second))
	p := h.connectsWithLargeBuffers()
	sent := p.queuesInKernel()
	h.advances(3*time.Second + late)
	p.staysOpenWhileAcknowledging(60*time.Second, 20*time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
	p.wantsEcho("queued echo", sent...)
	p.wants("ping after the queued echo", []byte{0x89, 0})
	p.sends([]byte{0x8a, 0x80, 0, 0, 0, 0})
	p.wantsAlive("after the pong")
}

func TestUnreadPingTimesOut(t *testing.T) {
	h := newHarness(t, idleTimeout(9*time.Second))
	p := h.connectsWithLargeBuffers()
	p.queuesInKernel()
	h.advances(3*time.Second + late)
	h.advances(h.cfg.WriteTimeout - 4*time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
	h.advances(time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 1)
	h.advances(h.cfg.WriteTimeout + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// During a drain, too, a slow reader receives its output, but only within the drain timeout.
func TestDrainWaitsForSlowReader(t *testing.T) {
	for _, inTime := range []bool{true, false} {
		h := newHarness(t)
		p := h.connectsWithLargeBuffers()
		sent := p.queuesInKernel()
		h.drains(2 * time.Minute)
		h.runsUntilIdle()
		p.staysOpenWhileAcknowledging(80*time.Second, 20*time.Second)
		if !inTime {
			h.advances(40*time.Second + late)
			h.wantsEnded(map[Reason]uint64{CutByShutdown: 1})
			continue
		}
		p.wantsEcho("queued echo", sent...)
		p.wantsClose("after the queued echo", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("after the close reply")
	}
}

// The mark that was set with an earlier ping does not count for a write backlog that begins now.
func TestMarkOfPingDoesNotAffectLaterBacklog(t *testing.T) {
	h := newHarness(t, idleTimeout(time.Hour))
	p := h.connectsWithLargeBuffers()
	h.advances(20*time.Minute + late)
	p.wants("ping after a third of the timeout", []byte{0x89, 0})
	h.advances(10 * time.Minute)
	p.sendsUntilBlocked(masked(messages(2000, 3000)...))
	h.advances(10 * time.Second)
	h.advances(20*time.Second - late)
	h.wantsEnded(nil)
	h.advances(2 * late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// On a unix socket the kernel counts unread output as unacknowledged. Even so, a close frame that
// the peer does not read does not extend the timeouts.
func TestUnreadCloseFrameOnUnixSocketTimesOut(t *testing.T) {
	h := newHarness(t)
	silent, closed := h.adopts(echo.Upgraded(), nil), h.adopts(echo.Upgraded(), nil)
	h.runsUntilIdle()
	closed.sends(masked(text("hello"), closing(1000)))
	h.workers[0].conns.mine.each(func(fd int) {
		if s := &h.slots[fd]; s.proto.Phase() == echo.Open && s.bytes == 0 {
			h.workers[0].conns.goodbye(conn{fd, s}, "test")
		}
	})
	h.advances(h.cfg.LingerTimeout + late)
	h.advances(late)
	h.until("they have ended", func() bool {
		h.time += sweepEvery
		return h.conns() == 0 || h.time > 1000+ticks(h.cfg.CloseTimeout+time.Second)
	})
	if h.conns() != 0 {
		t.Errorf("%d connections are open after %v, want 0", h.conns(), h.cfg.CloseTimeout+time.Second)
	}
	silent.reads()
}
