package pool

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"wsecho/internal/echo"
)

func TestEventsOfConnection(t *testing.T) {
	var events []ConnEvent
	h := newHarness(t, func(cfg *Config) {
		cfg.OnConn = func(e ConnEvent) { events = append(events, e) }
	})
	p := h.connects()
	p.sends(masked(text("hello")))
	p.wantsEcho("hello", text("hello"))
	port := p.port()
	if len(events) != 1 || events[0].Ended || events[0].Peer.Port() != port {
		t.Fatalf("events after the connection began: %+v", events)
	}
	h.advances(3 * time.Second)
	p.sends(masked(closing(1000)))
	p.wantsClose("close reply", 1000)
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	want := ConnEvent{Ended: true, Reason: Completed, Code: 1000, Received: uint64(len(request) + len(masked(text("hello"), closing(1000))))}
	e := events[1]
	if len(events) != 2 || e.Peer.Port() != port || e.Ended != want.Ended || e.Reason != want.Reason || e.Code != want.Code ||
		e.Received != want.Received || e.Sent < 7+4 || e.Duration < 3*time.Second || e.Duration > 4*time.Second {
		t.Errorf("events after the connection ended: %+v", events)
	}
}

// The event of a reset has the peer's address, which the kernel no longer knows.
func TestEventOfReset(t *testing.T) {
	var events []ConnEvent
	h := newHarness(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p := h.connects()
	port := p.port()
	p.resets()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if e := events[1]; e.Peer.Port() != port || e.Reason != Broken || e.Code != 0 {
		t.Errorf("got event %+v, want port %d and reason %q", e, port, Broken)
	}
}

// A reset before accept, like that of a load balancer's health check, leaves only the address that
// accept4 returns.
func TestEventOfResetInTheBacklog(t *testing.T) {
	for _, n := range []int{1, 2} {
		var events []ConnEvent
		h := newHarness(t, workers(n), func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
		var ports []uint16
		for range 4 {
			p := h.dials()
			ports = append(ports, p.port())
			p.resets()
		}
		h.until("all have ended", func() bool { return len(events) == 2*len(ports) })
		for _, e := range events {
			if !e.Peer.Addr().IsLoopback() || !slices.Contains(ports, e.Peer.Port()) {
				t.Errorf("got peer %v, want one of the ports %v", e.Peer, ports)
			}
		}
	}
}

// The address of an adopted connection is the one that was passed to Adopt.
func TestEventOfAdopted(t *testing.T) {
	var events []ConnEvent
	h := newHarness(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p, fd := h.socketPair()
	peer := netip.MustParseAddrPort("192.0.2.7:51522")
	if err := h.Adopt(fd, peer, echo.Upgraded(), nil, noGreeting); err != nil {
		t.Fatal(err)
	}
	h.adopted++
	p.wantsAlive("adopted connection")
	if conns := h.lists(ByAge, 1); len(conns) != 1 || conns[0].Peer != peer {
		t.Errorf("got list %+v, want one connection of %v", conns, peer)
	}
	p.closes()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if events[0].Peer != peer || events[1].Peer != peer {
		t.Errorf("got events %+v, want peer %v", events, peer)
	}
}

func TestEventOfRefusal(t *testing.T) {
	var events []ConnEvent
	h := newHarness(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	p.wantsStatus("request without upgrade", 426)
	p.closes()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if e := events[1]; e.Code != 426 {
		t.Errorf("got event %+v, want code 426", e)
	}
}
