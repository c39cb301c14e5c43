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

// sluggish connects a peer for which the kernel at our end keeps hundreds of kilobytes: of those, the peer
// acknowledges many before there is room to write again.
func (h *house) sluggish() *peer {
	h.t.Helper()
	h.limits(h.listeners[0].FD, unix.SO_SNDBUF, 1<<20) // the kernel makes less of it: net.core.wmem_max
	h.limits(h.listeners[0].FD, unix.SO_RCVBUF, 4*kernelRoom)
	return h.dials().upgrades()
}

// owed is what the peer has left unacknowledged, as our kernel sees it.
func (p *peer) owed() uint32 {
	p.h.t.Helper()
	_, fd := p.slot()
	return netpoll.Unacknowledged(fd)
}

// acknowledges reads until our kernel knows that something was read, while no worker does anything. It returns how
// much the peer has acknowledged.
func (p *peer) acknowledges() uint32 {
	p.h.t.Helper()
	_, fd := p.slot()
	before := netpoll.Unacknowledged(fd)
	var buffer [1024]byte
	for end := time.Now().Add(soon); time.Now().Before(end); runtime.Gosched() {
		n, err := netpoll.Recv(p.fd, buffer[:])
		if err != nil {
			p.h.t.Fatalf("nothing is acknowledged; then %v", err)
		}
		p.got = append(p.got, buffer[:n]...)
		if now := netpoll.Unacknowledged(fd); now < before {
			return before - now
		}
	}
	p.h.t.Fatalf("%d bytes are not acknowledged whatever is read", before)
	return 0
}

// queuesUpInTheKernel sends messages and reads nothing, until much of their echo is unacknowledged, but none is in a
// backlog of ours.
func (p *peer) queuesUpInTheKernel() (sent []ws.Frame) {
	p.h.t.Helper()
	s, _ := p.slot()
	for p.owed() < 120_000 {
		f := binary(len(sent), 3000)
		p.sends(masked(f))
		p.h.settles()
		sent = append(sent, f)
	}
	if p.h.workers[0].conns.store.hasUnsent(s) {
		p.h.t.Fatal("there is a backlog")
	}
	return sent
}

// stays lets d pass in which the peer acknowledges something every so often, and wants the connection to be there
// after that.
func (p *peer) staysWhileAcknowledging(d, every time.Duration) {
	p.h.t.Helper()
	open := p.h.conns()
	for passed := time.Duration(0); passed < d; passed += every {
		if p.owed() < 4096 {
			p.h.t.Fatalf("all is acknowledged after %v", passed)
		}
		p.acknowledges()
		p.h.later(every)
		if p.h.conns() != open {
			p.h.t.Fatalf("it was cut off after %v: %v", passed, p.h.count().Ended)
		}
	}
}

// A peer that acknowledges something now and then is not cut off, although the kernel takes nothing more from us
// for much longer than the timeout.
func TestPeerThatReadsSlowly(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(5 * time.Second)
	written, since := h.count().BytesOut, h.time
	for h.count().BytesOut == written && h.time-since < ticks(10*h.cfg.WriteTimeout) {
		p.staysWhileAcknowledging(20*time.Second, 20*time.Second)
	}
	if h.time-since <= ticks(h.cfg.WriteTimeout) {
		t.Errorf("the kernel was writable after %v: the test has shown nothing", time.Duration(h.time-since)*tickTime)
	}
}

// One that reads nothing is cut off on time, however often it is looked at.
func TestPeerThatReadsNothing(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	for passed := time.Second; passed < h.cfg.WriteTimeout; passed += time.Second {
		h.later(time.Second)
	}
	h.wantsEnded(nil)
	h.later(time.Second + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// What the peer's kernel takes into its receive buffer at first is no progress of the peer.
func TestReceiveBufferThatFillsIsNoProgress(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(time.Second / 5)
	p.acknowledges() // as if it had had room for more
	h.later(2 * time.Second)
	h.later(h.cfg.WriteTimeout - 2*time.Second - time.Second/5 - late)
	h.wantsEnded(nil)
	h.later(2 * late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// One that stops reading is cut off after twice the timeout at the latest.
func TestPeerThatStopsReading(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(5 * time.Second)
	p.staysWhileAcknowledging(20*time.Second, 5*time.Second)
	h.later(h.cfg.WriteTimeout - 5*time.Second - late)
	h.wantsEnded(nil)
	h.later(h.cfg.WriteTimeout + 5*time.Second + 2*late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// One that acknowledges less than the minimum rate is cut off like one that reads nothing.
func TestPeerThatReadsTooSlowly(t *testing.T) {
	h := opens(t, writeTimeout(4*time.Hour))
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(time.Hour)
	for hour := 2; hour < 4; hour++ {
		if acked := p.acknowledges(); acked > minRate/2*3600 {
			t.Skipf("%d bytes are acknowledged at once: too many for this test", acked)
		}
		h.later(time.Hour)
	}
	h.wantsEnded(nil)
	h.later(time.Hour + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// What the peer has acknowledged in steps lengthens the next wait, as far as it pays for it: receivers open their
// window in steps.
func TestStepsPayInAdvance(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(5 * time.Second)
	var acked uint32
	for acked < minRate/2*45 { // it was 20 s: pays for 25 more
		acked += p.acknowledges()
	}
	h.later(20 * time.Second)
	h.later(h.cfg.WriteTimeout + 20*time.Second)
	h.wantsEnded(nil)
	h.later(h.cfg.WriteTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// That the kernel takes more of a backlog is progress too, and needs no look.
func TestBacklogThatDrainsIsProgress(t *testing.T) {
	h := opens(t, bufferSize(256<<10))
	p := h.reluctant()
	s, fd := p.slot()
	w := h.workers[0]
	p.queuesUp() // so that the kernel takes little of one long frame
	rest := masked(binary(1, 200_000))
	h.until("there is a backlog", func() bool {
		rest = p.sendsSome(rest)
		return w.conns.store.hasUnsent(s)
	})
	h.later(29 * time.Second)
	for !netpoll.Writable(fd) {
		p.acknowledges()
	}
	w.conns.drainBacklog(conn{fd, s})
	if !w.conns.store.hasUnsent(s) {
		t.Fatal("the kernel has taken all of the backlog: the test has shown nothing")
	}
	if s.since != h.time {
		t.Errorf("its time counts from %d, want %d", s.since, h.time)
	}
	h.later(29 * time.Second)
	h.wantsEnded(nil)
	h.later(time.Second + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A connection that is parked, because there is no memory for a backlog, is treated the same.
func TestParkedPeerThatReadsSlowly(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.hoarder()
	p := h.sluggish()
	p.stuffs(masked(messages(2000, 3000)...))
	s, _ := p.slot()
	if !s.is(parked) {
		t.Fatal("it is not parked")
	}
	since := h.time
	h.later(5 * time.Second)
	for s.is(parked) && h.time-since < ticks(10*h.cfg.WriteTimeout) {
		p.staysWhileAcknowledging(20*time.Second, 20*time.Second)
	}
	if h.time-since <= ticks(h.cfg.WriteTimeout) {
		t.Errorf("it was parked for %v: the test has shown nothing", time.Duration(h.time-since)*tickTime)
	}
	h.wantsEnded(nil)
}

// A peer need not answer a close frame that is behind output which it still reads.
func TestCloseFrameBehindUnreadOutput(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	sent := p.queuesUpInTheKernel()
	s, fd := p.slot()
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	h.later(4 * time.Second)
	p.staysWhileAcknowledging(60*time.Second, 15*time.Second)
	p.wantsEcho("what was queued", sent...)
	p.wantsClose("and then the goodbye", 1001)
	h.until("it is acknowledged", func() bool { return p.owed() == 0 })
	h.later(h.cfg.CloseTimeout - late)
	h.wantsEnded(nil)
	h.later(h.cfg.CloseTimeout)
	h.wantsEnded(map[Reason]uint64{CloseTimedOut: 1})
}

// One that does not read is not waited for longer than any other that does not.
func TestCloseFrameThatIsNeverRead(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.queuesUpInTheKernel()
	s, fd := p.slot()
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	h.later(h.cfg.CloseTimeout + late)
	h.wantsEnded(nil)
	h.later(h.cfg.WriteTimeout - h.cfg.CloseTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// To close while the peer still reads what it is owed, and sends, would be to reset the connection under it.
func TestCloseReplyBehindUnreadOutput(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	sent := p.queuesUpInTheKernel()
	p.sends(masked(closing(1000)))
	h.later(time.Second)
	p.staysWhileAcknowledging(60*time.Second, 15*time.Second)
	p.wantsEcho("what was queued", sent...)
	p.wantsEcho("and then the reply", closing(1000))
	p.wantsFIN("our end")
	h.until("it is acknowledged", func() bool { return p.owed() == 0 })
	h.later(h.cfg.LingerTimeout)
	h.later(h.cfg.LingerTimeout + late)
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestCloseReplyThatIsNeverRead(t *testing.T) {
	h := opens(t)
	p := h.sluggish()
	p.queuesUpInTheKernel()
	p.sends(masked(closing(1000)))
	h.later(h.cfg.LingerTimeout + late)
	h.wantsEnded(nil)
	h.later(h.cfg.WriteTimeout - h.cfg.LingerTimeout)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A ping behind output that the peer still reads has no answer yet, and that is no silence.
func TestPingBehindUnreadOutput(t *testing.T) {
	h := opens(t, idleTimeout(9*time.Second))
	p := h.sluggish()
	sent := p.queuesUpInTheKernel()
	h.later(3*time.Second + late)
	p.staysWhileAcknowledging(60*time.Second, 20*time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
	p.wantsEcho("what was queued", sent...)
	p.wants("the ping", []byte{0x89, 0})
	p.sends([]byte{0x8a, 0x80, 0, 0, 0, 0})
	p.alive("it has answered")
}

func TestPingThatIsNeverRead(t *testing.T) {
	h := opens(t, idleTimeout(9*time.Second))
	p := h.sluggish()
	p.queuesUpInTheKernel()
	h.later(3*time.Second + late)
	h.later(h.cfg.WriteTimeout - 4*time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
	h.later(time.Second)
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 1)
	h.later(h.cfg.WriteTimeout + late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// While the pool drains, the same holds, and the time to drain is the limit.
func TestDrainOfAPeerThatReadsSlowly(t *testing.T) {
	for _, inTime := range []bool{true, false} {
		h := opens(t)
		p := h.sluggish()
		sent := p.queuesUpInTheKernel()
		h.drains(2 * time.Minute)
		h.settles()
		p.staysWhileAcknowledging(80*time.Second, 20*time.Second)
		if !inTime {
			h.later(40*time.Second + late)
			h.wantsEnded(map[Reason]uint64{CutByShutdown: 1})
			continue
		}
		p.wantsEcho("what was queued", sent...)
		p.wantsClose("and then the goodbye", 1001)
		p.sends(masked(closing(1001)))
		p.wantsFIN("it has answered")
	}
}

// What was unacknowledged when the peer was pinged, long ago, does not count for a backlog that begins now.
func TestBacklogAfterAPing(t *testing.T) {
	h := opens(t, idleTimeout(time.Hour))
	p := h.sluggish()
	h.later(20*time.Minute + late)
	p.wants("a ping", []byte{0x89, 0})
	h.later(10 * time.Minute)
	p.stuffs(masked(messages(2000, 3000)...))
	h.later(10 * time.Second)
	h.later(20*time.Second - late)
	h.wantsEnded(nil)
	h.later(2 * late)
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A close frame that the peer has, but does not read, has the time of any other, on a unix socket too: there the
// kernel tells of output that is unread.
func TestCloseFrameThatAUnixPeerDoesNotRead(t *testing.T) {
	h := opens(t)
	silent, closed := h.adopts(echo.Upgraded(), nil), h.adopts(echo.Upgraded(), nil)
	h.settles()
	closed.sends(masked(text("hello"), closing(1000)))
	h.workers[0].conns.mine.each(func(fd int) {
		if s := &h.slots[fd]; s.proto.Phase() == echo.Open && s.bytes == 0 {
			h.workers[0].conns.goodbye(conn{fd, s}, "test")
		}
	})
	h.later(h.cfg.LingerTimeout + late)
	h.later(late)
	h.until("they have ended", func() bool {
		h.time += sweepEvery
		return h.conns() == 0 || h.time > 1000+ticks(h.cfg.CloseTimeout+time.Second)
	})
	if h.conns() != 0 {
		t.Errorf("%d are there after %v", h.conns(), h.cfg.CloseTimeout+time.Second)
	}
	silent.reads()
}
