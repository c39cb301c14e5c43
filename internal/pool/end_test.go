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

// We end TCP first, and give the slot back when the peer has ended, too.
func TestPeerCloses(t *testing.T) {
	h := opens(t)
	for _, code := range []ws.StatusCode{1000, 1001, 3000, 4999} {
		p := h.connects()
		p.sends(masked(text("hello"), closing(code), text("ignored")))
		p.wantsEcho("echo and close", text("hello"), closing(code))
		p.wantsFIN("our end is first")
		if h.conns() != 1 {
			t.Errorf("code %d: the slot is free before the peer has ended", code)
		}
		p.sends(masked(text("ignored")))
		h.settles()
		p.closes()
		h.until("the slot is free", func() bool { return h.conns() == 0 })
		h.wantsCount("closed", h.count().Codes[int(code)], 1)
	}
	h.wantsEnded(map[Reason]uint64{Completed: 4})
	h.wantsCount("open", uint64(h.Open()), 0)
	if h.count().BytesDiscarded == 0 {
		t.Error("what came after our end is not counted")
	}
}

func TestPeerClosesAndEndsAtOnce(t *testing.T) {
	h := opens(t)
	p := h.connects()
	p.sends(masked(text("hello"), closing(1000)))
	p.ends()
	p.wantsEcho("echo and close", text("hello"), closing(1000))
	p.wantsFIN("our end")
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

func TestPeerEndsAfterARefusal(t *testing.T) {
	h := opens(t)
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.0\r\n\r\n"))
	p.wantsStatus("HTTP/1.0", 400)
	p.ends()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.wantsCount("refused with 400", h.count().Codes[400], 1)
}

// Bytes on their way when we close are not answered with a reset, which could
// destroy the reply.
func TestBytesOnTheirWayDestroyNoReply(t *testing.T) {
	h := opens(t, bufferSize(4096))
	p := h.connects()
	p.sends(masked(closing(1000)), masked(messages(100, 1000)...))
	h.settles()
	p.sends(masked(messages(100, 1000)...))
	h.settles()
	p.wantsEcho("the close", closing(1000))
	p.wantsFIN("no reset")
	p.sends(masked(messages(100, 1000)...))
	p.ends()
	h.until("all of it is read, and the end behind it", func() bool { return h.conns() == 0 })
}

func TestViolation(t *testing.T) {
	h := opens(t)
	p := h.connects()
	p.sends(masked(text("hello")), []byte{0x81, 5})
	p.wantsEcho("what came before", text("hello"))
	p.wantsClose("a frame without a mask", 1002)
	p.wantsFIN("our end")
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.wantsCount("closed with 1002", h.count().Codes[1002], 1)
}

// A connection that epoll refuses is given up, and nothing else is lost.
func TestEpollRefuses(t *testing.T) {
	book := &logbook{}
	h := opens(t, func(cfg *Config) { cfg.Log = book.log() })
	p, witness := h.reluctant(), h.connects()
	s, fd := p.slot()
	w := h.workers[0]
	if err := w.conns.poller.Remove(fd); err != nil {
		t.Fatal(err)
	}
	if w.conns.arm(conn{fd, s}) {
		t.Error("it could be modified without being there")
	}
	p.wantsFIN("it was given up")
	witness.alive("the others")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
	if !strings.Contains(book.read(), "level=ERROR") || !strings.Contains(book.read(), "epoll_ctl modify") {
		t.Errorf("the log has %q", book.read())
	}
}

// So is one that epoll refuses from the start.
func TestEpollRefusesANewConnection(t *testing.T) {
	book := &logbook{}
	h := opens(t, func(cfg *Config) { cfg.Log = book.log() })
	witness := h.connects()
	h.Pool.accept = func(listener int) (int, netip.AddrPort, error) {
		fd, peer, err := netpoll.AcceptFrom(listener)
		if err != nil || fd < 0 {
			return fd, peer, err
		}
		file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // epoll watches no such file
		netpoll.Close(fd)
		return file, peer, err
	}
	p := h.dials()
	h.settles()
	p.wantsFIN("it was given up")
	witness.alive("the others")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
	if !strings.Contains(book.read(), "level=ERROR") || !strings.Contains(book.read(), "epoll_ctl add") {
		t.Errorf("the log has %q", book.read())
	}
}

// A connection that the peer has reset by the time that we end our side has ended, and its slot is free.
func TestPeerIsFasterThanOurEnd(t *testing.T) {
	h := opens(t)
	p, witness := h.connects(), h.connects()
	s, fd := p.slot()
	p.resets()
	for end := time.Now().Add(soon); netpoll.ShutdownWrite(fd) == nil; {
		if time.Now().After(end) {
			t.Fatal("the reset does not arrive")
		}
	}
	h.workers[0].conns.shut(conn{fd, s})
	if *s != (slot{gen: s.gen}) {
		t.Errorf("the slot is %+v", *s)
	}
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.later(time.Hour)
	witness.alive("nobody looks after the one that has ended")
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range numReasons {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[r.String()] = true
	}
}
