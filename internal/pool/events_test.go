package pool

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"wsecho/internal/echo"
)

func TestEvents(t *testing.T) {
	var events []ConnEvent
	h := opens(t, func(cfg *Config) {
		cfg.OnConn = func(e ConnEvent) { events = append(events, e) }
	})
	p := h.connects()
	p.sends(masked(text("hello")))
	p.wantsEcho("hello", text("hello"))
	port := p.port()
	if len(events) != 1 || events[0].Ended || events[0].Peer.Port() != port {
		t.Fatalf("of a connection that has come: %+v", events)
	}
	h.later(3 * time.Second)
	p.sends(masked(closing(1000)))
	p.wantsClose("goodbye", 1000)
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	want := ConnEvent{Ended: true, Reason: Completed, Code: 1000, Received: uint64(len(request) + len(masked(text("hello"), closing(1000))))}
	e := events[1]
	if len(events) != 2 || e.Peer.Port() != port || e.Ended != want.Ended || e.Reason != want.Reason || e.Code != want.Code ||
		e.Received != want.Received || e.Sent < 7+4 || e.Duration < 3*time.Second || e.Duration > 4*time.Second {
		t.Errorf("of its end: %+v", events)
	}
}

// A peer that has reset is not there to be asked its address.
func TestEventOfReset(t *testing.T) {
	var events []ConnEvent
	h := opens(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p := h.connects()
	port := p.port()
	p.resets()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if e := events[1]; e.Peer.Port() != port || e.Reason != Broken || e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

// Nor is one that has reset before it was accepted, like a load balancer's health check: accept4 tells.
func TestEventOfResetInTheBacklog(t *testing.T) {
	for _, n := range []int{1, 2} {
		var events []ConnEvent
		h := opens(t, workers(n), func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
		var ports []uint16
		for range 4 {
			p := h.dials()
			ports = append(ports, p.port())
			p.resets()
		}
		h.until("all have ended", func() bool { return len(events) == 2*len(ports) })
		for _, e := range events {
			if !e.Peer.Addr().IsLoopback() || !slices.Contains(ports, e.Peer.Port()) {
				t.Errorf("the peer is %v, want one of the ports %v", e.Peer, ports)
			}
		}
	}
}

// What adopts a connection says whose it is.
func TestEventOfAdopted(t *testing.T) {
	var events []ConnEvent
	h := opens(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p, fd := h.stranger()
	peer := netip.MustParseAddrPort("192.0.2.7:51522")
	if err := h.Adopt(fd, peer, echo.Upgraded(), nil, noGreeting); err != nil {
		t.Fatal(err)
	}
	h.adopted++
	p.alive("it is adopted")
	if conns := h.lists(ByAge, 1); len(conns) != 1 || conns[0].Peer != peer {
		t.Errorf("listed: %+v", conns)
	}
	p.closes()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if events[0].Peer != peer || events[1].Peer != peer {
		t.Errorf("%+v, want the peer %v", events, peer)
	}
}

func TestEventOfRefusal(t *testing.T) {
	var events []ConnEvent
	h := opens(t, func(cfg *Config) { cfg.OnConn = func(e ConnEvent) { events = append(events, e) } })
	p := h.dials()
	p.sends([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	p.wantsStatus("it has not asked", 426)
	p.closes()
	h.until("it has ended", func() bool { return len(events) == 2 })
	if e := events[1]; e.Code != 426 {
		t.Errorf("%+v", e)
	}
}
