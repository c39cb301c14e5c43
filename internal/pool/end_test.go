package pool

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// The server sends FIN first. The slot is free when the peer has sent FIN, too.
func TestCloseHandshakeFreesSlotAfterPeersFIN(t *testing.T) {
	h := newHarness(t)
	for _, code := range []ws.StatusCode{1000, 1001, 3000, 4999} {
		p := h.connects()
		p.sends(masked(text("hello"), closing(code), text("ignored")))
		p.wantsEcho("echo and close", text("hello"), closing(code))
		p.wantsFIN("server's FIN first")
		if h.conns() != 1 {
			t.Errorf("code %d: the slot is free before the peer's FIN", code)
		}
		p.sends(masked(text("ignored")))
		h.runsUntilIdle()
		p.closes()
		h.until("the slot is free", func() bool { return h.conns() == 0 })
		h.wantsCount("closed with this code", h.count().Codes[int(code)], 1)
	}
	h.wantsEnded(map[Reason]uint64{Completed: 4})
	h.wantsCount("open connections", uint64(h.Open()), 0)
	if h.count().BytesDiscarded == 0 {
		t.Error("BytesDiscarded is 0, want the input after our FIN counted")
	}
}

func TestCloseFrameAndFINTogether(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	p.sends(masked(text("hello"), closing(1000)))
	p.ends()
	p.wantsEcho("echo and close", text("hello"), closing(1000))
	p.wantsFIN("after the close reply")
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestFINAfterRefusal(t *testing.T) {
	h := newHarness(t)
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.0\r\n\r\n"))
	p.wantsStatus("HTTP/1.0", 400)
	p.ends()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.wantsCount("refused with 400", h.count().Codes[400], 1)
}

// Input that is in flight when the server closes is not answered with a reset, which could destroy
// the close reply.
func TestInputAfterCloseCausesNoReset(t *testing.T) {
	h := newHarness(t, bufferSize(4096))
	p := h.connects()
	p.sends(masked(closing(1000)), masked(messages(100, 1000)...))
	h.runsUntilIdle()
	p.sends(masked(messages(100, 1000)...))
	h.runsUntilIdle()
	p.wantsEcho("close reply", closing(1000))
	p.wantsFIN("no reset after the close reply")
	p.sends(masked(messages(100, 1000)...))
	p.ends()
	h.until("all input is read, and the peer's FIN", func() bool { return h.conns() == 0 })
}

func TestViolationClosesWith1002(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	p.sends(masked(text("hello")), []byte{0x81, 5})
	p.wantsEcho("echo of the message before the violation", text("hello"))
	p.wantsClose("unmasked frame", 1002)
	p.wantsFIN("after the close frame")
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.wantsCount("closed with 1002", h.count().Codes[1002], 1)
}

// A connection that epoll cannot watch is closed. Others are not affected.
func TestEpollFailureClosesConnection(t *testing.T) {
	logged := &logBuffer{}
	h := newHarness(t, func(cfg *Config) { cfg.Log = logged.log() })
	p, witness := h.connectsWithSmallBuffers(), h.connects()
	s, fd := p.slot()
	w := h.workers[0]
	if err := w.conns.poller.Remove(fd); err != nil {
		t.Fatal(err)
	}
	if w.conns.arm(conn{fd, s}) {
		t.Error("arm reports that the connection still exists, want false")
	}
	p.wantsFIN("after the epoll failure")
	witness.wantsAlive("another connection")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
	if !strings.Contains(logged.read(), "level=ERROR") || !strings.Contains(logged.read(), "epoll_ctl modify") {
		t.Errorf("got log %q, want an error of epoll_ctl modify", logged.read())
	}
}

// epoll can refuse to watch a new connection. The connection is closed, and the error is logged.
func TestEpollFailureClosesNewConnection(t *testing.T) {
	logged := &logBuffer{}
	h := newHarness(t, func(cfg *Config) { cfg.Log = logged.log() })
	other := h.connects()
	h.Pool.accept = func(listener int) (int, netip.AddrPort, error) {
		fd, peer, err := netpoll.AcceptFrom(listener)
		if err != nil || fd < 0 {
			return fd, peer, err
		}
		file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // epoll cannot watch this file
		netpoll.Close(fd)
		return file, peer, err
	}
	p := h.dials()
	h.runsUntilIdle()
	p.wantsFIN("the connection was closed")
	other.wantsAlive("the failure affects no other connection")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
	if !strings.Contains(logged.read(), "level=ERROR") || !strings.Contains(logged.read(), "epoll_ctl add") {
		t.Errorf("got log %q, want an error of epoll_ctl", logged.read())
	}
}

// If the peer has reset the connection before our FIN, shut ends it and frees the slot.
func TestResetBeforeShutEndsConnection(t *testing.T) {
	h := newHarness(t)
	p, witness := h.connects(), h.connects()
	s, fd := p.slot()
	p.resets()
	for end := time.Now().Add(soon); netpoll.ShutdownWrite(fd) == nil; {
		if time.Now().After(end) {
			t.Fatal("timed out waiting for the reset")
		}
	}
	h.workers[0].conns.shut(conn{fd, s})
	if *s != (slot{gen: s.gen}) {
		t.Errorf("the slot is %+v, want it cleared", *s)
	}
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.advances(time.Hour)
	witness.wantsAlive("an hour later")
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range numReasons {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d has the name %q, want a unique one", r, name)
		}
		seen[r.String()] = true
	}
}
