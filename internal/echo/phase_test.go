package echo

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestGoodbye(t *testing.T) {
	short := func(cfg *Config) { cfg.MaxFrame = 64 }
	long := strings.Repeat("long ", 100)

	serverClosesFirst := func(p *peer) {
		p.t.Helper()
		p.serverCloses(ws.StatusGoingAway, "bye")
		p.wantsClose(ws.StatusGoingAway, "the server closes first")
		p.serverCloses(ws.StatusInternalServerError, "bye again")
		p.wantsNothing("an endpoint sends only one close frame")
		if s := &p.conn.state; s.Phase() != CloseSent || s.Code() != 1001 {
			p.t.Fatalf("got phase %d, code %d; want CloseSent with code 1001", s.Phase(), s.Code())
		}
	}
	// The server ignores frames that the peer may have sent before it received our close frame. The
	// peer's close frame ends the connection with our code.
	ends := func(p *peer, before ...sendable) {
		p.t.Helper()
		p.sends(before...)
		p.sends(text("one"), ping("?"), pong("!"), first(ws.OpBinary, long), ping("?"), more(""), last(long), text("\xff"), binaryOf(long), text(""))
		if len(p.unread) > 0 {
			p.t.Fatalf("got %s after our close frame, want nothing (5.5.1)", gist(p.unread))
		}
		if p.conn.state.Phase() != CloseSent {
			p.t.Fatalf("got phase %d before the peer's close frame, want CloseSent", p.conn.state.Phase())
		}
		p.sends(closing(1000, "bye, too"))
		p.wantsEnd(1001, "both have closed; ours was first")
	}

	converse(t, []rule{
		{name: "in the handshake, before the first byte, it is a refusal with 503", fresh: true, talk: func(p *peer) {
			p.serverCloses(1001, "bye")
			p.wantsRefusal(503, "there is no WebSocket to close", "Retry-After: 1")
		}},
		{name: "in the middle of a request it is a refusal with 503", fresh: true, talk: func(p *peer) {
			p.sends(raw("GET / HTTP/1.1\r\nHost: a\r\n"))
			p.wantsNothing("the request is incomplete")
			p.serverCloses(1001, "bye")
			p.wantsRefusal(503, "there is no WebSocket to close")
		}},
		{name: "open and idle (7.1.2)", talk: func(p *peer) {
			serverClosesFirst(p)
			ends(p)
		}},
		{name: "right after the handshake (7.1.2)", fresh: true, talk: func(p *peer) {
			p.sends(sample())
			p.wantsUpgrade("open")
			serverClosesFirst(p)
			ends(p)
		}},
		{name: "the close frame has code and reason (5.5.1)", talk: func(p *peer) {
			p.serverCloses(1011, "ops")
			p.wantsFrame(ws.OpClose, true, "\x03\xf3ops", "as given")
			p.sends(closeWith(""))
			p.wantsEnd(1011, "both have closed")
		}},
		{name: "the close frame may be as long as a control frame (5.5)", talk: func(p *peer) {
			p.serverCloses(1011, long[:123])
			p.wantsFrame(ws.OpClose, true, "\x03\xf3"+long[:123], "as given")
			p.sends(closeWith(""))
			p.wantsEnd(1011, "both have closed")
		}},
		{name: "after an echo", talk: func(p *peer) {
			p.wantsOpen("open")
			serverClosesFirst(p)
			ends(p)
		}},
		{name: "between fragments (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "to be\xe2"))
			p.wantsFrame(ws.OpText, false, "to be\xe2", "the fragment")
			serverClosesFirst(p)
			ends(p, more("con"), last("tinued"))
		}},
		{name: "in the middle of a header", talk: func(p *peer) {
			f := text(strings.Repeat("x", 200))
			p.sends(f.upTo(0)[:5])
			serverClosesFirst(p)
			ends(p, f.upTo(0)[5:], f.from(0))
		}},
		{name: "in the middle of a ping", talk: func(p *peer) {
			p.sends(ping("Hello").upTo(3))
			serverClosesFirst(p)
			ends(p, ping("Hello").from(3))
		}},
		{name: "in the middle of a close", talk: func(p *peer) {
			f := closing(4000, "whew")
			p.sends(f.upTo(3))
			serverClosesFirst(p)
			p.sends(f.from(3))
			p.wantsEnd(1001, "both have closed; ours was first")
		}},
		{name: "in the middle of a kept text", talk: func(p *peer) {
			p.sends(text(long).upTo(100))
			p.wantsNothing("the frame is incomplete")
			serverClosesFirst(p)
			ends(p, text(long).from(100))
		}},
		{name: "in the middle of a character of a kept text", talk: func(p *peer) {
			p.sends(text("€").upTo(2))
			p.wantsNothing("the frame is incomplete")
			serverClosesFirst(p)
			ends(p, text("€").from(2))
		}},
		{name: "in the middle of a kept fragment", talk: func(p *peer) {
			p.sends(first(ws.OpBinary, "x"), more(long).upTo(100))
			p.wantsFrame(ws.OpBinary, false, "x", "the first fragment")
			serverClosesFirst(p)
			ends(p, more(long).from(100), last(""))
		}},
		{name: "in the middle of a frame being cut through", with: short, cuts: true, talk: func(p *peer) {
			p.sends(text(long).upTo(100))
			p.wantsFrame(ws.OpText, false, long[:100], "the payload that has arrived")
			serverClosesFirst(p)
			ends(p, text(long).from(100))
		}},
		{name: "in the middle of a fragment being cut through", with: short, cuts: true, talk: func(p *peer) {
			p.sends(first(ws.OpText, "x"), more(long).upTo(100))
			p.wantsFrame(ws.OpText, false, "x", "the first fragment")
			p.wantsFrame(ws.OpContinuation, false, long[:100], "the payload that has arrived of the second")
			serverClosesFirst(p)
			ends(p, more(long).from(100), last("\xff"))
		}},
		{name: "the peer's close frame may be invalid (7.1.4)", talk: func(p *peer) {
			serverClosesFirst(p)
			p.sends(closeWith("\x00"))
			p.wantsEnd(1001, "both have closed; no output may follow our close frame")
		}},
		{name: "a violation after it ends the connection without output (7.1.7)", talk: func(p *peer) {
			serverClosesFirst(p)
			p.sends(text("fine"), frame{op: 3, fin: true}, closing(1000, ""))
			p.wantsEnd(1001, "the start of the next frame is unknown")
		}},
		{name: "a message that is too long is ignored after it", with: func(cfg *Config) { cfg.MaxMessage = 10 }, talk: func(p *peer) {
			serverClosesFirst(p)
			ends(p, text(long))
		}},
		{name: "after a close it sends nothing", talk: func(p *peer) {
			p.sends(closing(1000, ""))
			p.wantsFailure(1000, "closed")
			p.serverCloses(1001, "bye")
			p.wantsEnd(1000, "the code does not change")
		}},
	})
}

func TestRefuse(t *testing.T) {
	var rules []rule
	for _, c := range []struct {
		refusal *Refusal
		status  int
		fields  []string
	}{
		{RefuseTooSlow, 408, nil},
		{RefuseFull, 503, []string{"Retry-After: 1"}},
		{RefusePerIP, 503, []string{"Retry-After: 1"}},
	} {
		rules = append(rules, rule{name: c.refusal.Reason + ", before the first byte", fresh: true, talk: func(p *peer) {
			p.serverRefuses(c.refusal)
			p.wantsRefusal(c.status, c.refusal.Reason, c.fields...)
		}}, rule{name: c.refusal.Reason + ", in the middle of a request", fresh: true, talk: func(p *peer) {
			p.sends(raw("GET / HTTP/1.1\r\nHost"))
			p.serverRefuses(c.refusal)
			p.wantsRefusal(c.status, c.refusal.Reason, c.fields...)
		}}, rule{name: c.refusal.Reason + ", not in phase Open", talk: func(p *peer) {
			p.serverRefuses(c.refusal)
			p.wantsNothing("Refuse does nothing after the handshake")
			p.wantsOpen("the phase does not change")
		}})
	}
	converse(t, rules)

	if got, want := string(RefuseFull.Append([]byte("before"), noon)), "beforeHTTP/1.1 503 Service Unavailable\r\n"; !strings.HasPrefix(got, want) {
		t.Errorf("Append: got %q, want the prefix %q", got, want)
	}
}

// Counters count frames, payload bytes and messages, received and sent.
func TestCounters(t *testing.T) {
	var want Counters
	want.FramesIn = [16]uint64{ws.OpContinuation: 2, ws.OpText: 2, ws.OpBinary: 1, ws.OpPing: 2, ws.OpPong: 1, ws.OpClose: 1}
	want.PayloadIn = [16]uint64{ws.OpContinuation: 4, ws.OpText: 7, ws.OpBinary: 3, ws.OpPing: 1, ws.OpPong: 4, ws.OpClose: 5}
	want.FramesOut = [16]uint64{ws.OpContinuation: 2, ws.OpText: 2, ws.OpBinary: 1, ws.OpPong: 2, ws.OpClose: 1}
	want.PayloadOut = [16]uint64{ws.OpContinuation: 4, ws.OpText: 7, ws.OpBinary: 3, ws.OpPong: 1, ws.OpClose: 5}
	want.Messages = [3]uint64{ws.OpText: 2, ws.OpBinary: 1}
	converse(t, []rule{{name: "frames, payload and messages, by opcode and direction", talk: func(p *peer) {
		p.sends(text("Hello"), binaryOf("abc"), first(ws.OpText, "fr"), ping("?"), more("ag"), pong("pong"), last("ed"), ping(""), closing(1000, "bye"))
		p.wantsText("Hello", "echo")
		p.wantsFrame(ws.OpBinary, true, "abc", "echo")
		p.wantsFrame(ws.OpText, false, "fr", "echo")
		p.wantsPong("?", "answer")
		p.wantsFrame(ws.OpContinuation, false, "ag", "echo")
		p.wantsFrame(ws.OpContinuation, true, "ed", "echo")
		p.wantsPong("", "answer")
		p.wantsFrame(ws.OpClose, true, "\x03\xe8bye", "answer")
		p.wantsEnd(1000, "closed")
		if got := p.conn.endpoint.Count; !p.cuts && got != want {
			p.t.Errorf("got %+v,\nwant %+v", got, want)
		}
	}}})
}
