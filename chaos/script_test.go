package chaos

import (
	"fmt"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A step is one part of a peer's script. It is called at each of the peer's turns until it reports
// that it is done. The next step then follows.
type step func(p *peer) (done bool)

// script concatenates lists of steps.
func script(parts ...[]step) (all []step) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// connects waits for the TCP connection.
func connects() step { return func(p *peer) bool { return p.canWrite } }

// sends sends raw bytes.
func sends(bytes string) step {
	begun := false
	return func(p *peer) bool {
		if !begun {
			p.sender.raw, begun = []byte(bytes), true
		}
		return len(p.sender.raw) == 0
	}
}

// upgrades runs the opening handshake.
func upgrades() []step { return []step{sends(request), gets101()} }

// gets101 waits for the response 101.
func gets101() step { return func(p *peer) bool { return p.verifier.status == 101 } }

// getsRefusal waits for a response with the given status and the end of the connection. Neither may
// arrive earlier than after, less one tick of the server's clock.
func getsRefusal(status int, after time.Duration) step {
	return func(p *peer) bool {
		if p.verifier.status != status || !p.gotEOF {
			return false
		}
		const tick = 20 * time.Millisecond // the server's clock
		if waited := p.swarm.now.Sub(p.connectedAt); waited < after-tick {
			p.fail(fmt.Errorf("status %d after %v, want at least %v", status, waited, after))
			return false
		}
		p.finish(fmt.Sprint(status))
		return false
	}
}

// sendsMessages sends a number of messages, as fast as the server accepts them.
func sendsMessages(t *traffic, messages int, r *rng) step { return sendsPart(t, messages, 0, r) }

// sendsPart sends only the first bytes of the messages, and sendsRemainder the others.
func sendsPart(t *traffic, messages, bytes int, r *rng) step {
	stream, begun := newStream(t, r.next(), messages), false
	return func(p *peer) bool {
		if !begun {
			begun = true
			p.begin(stream)
			p.sender.limit = bytes
		}
		return p.sender.stream.done() || bytes > 0 && p.sender.sent == bytes
	}
}

func sendsRemainder() step {
	return func(p *peer) bool {
		p.sender.limit = 0
		return p.sender.stream.done()
	}
}

// keepsSending starts to send messages without end, at most window of them without an echo (0: no
// limit). The next step follows at once.
func keepsSending(t *traffic, window int, r *rng) step {
	stream := newStream(t, r.next(), endless)
	return func(p *peer) bool {
		p.begin(stream)
		p.sender.window = window
		return true
	}
}

// stopsSending completes the current message and sends no more.
func stopsSending() step {
	return func(p *peer) bool {
		unsent := p.sender.stream.remaining
		p.sender.stream.remaining, p.sender.window = 0, 0
		if n := len(p.verifier.expected); n > 0 {
			p.verifier.expected[n-1].remaining -= unsent
		}
		return p.sender.stream.done()
	}
}

// getsEcho waits until everything sent has been echoed.
func getsEcho() step { return func(p *peer) bool { return p.verifier.complete() } }

// writesAt sets the pace of writing, and readsAt that of reading, in bytes per interval.
func writesAt(bytes int, every time.Duration) step {
	return func(p *peer) bool { p.sender.pace = pace{bytes: bytes, every: every}; return true }
}

func readsAt(bytes int, every time.Duration) step {
	return func(p *peer) bool { p.readPace = pace{bytes: bytes, every: every}; return true }
}

// stopsReading stops reading, and resumesReading reads again.
func stopsReading() step   { return func(p *peer) bool { p.notReading = true; return true } }
func resumesReading() step { return func(p *peer) bool { p.notReading = false; return true } }

func pauses(d time.Duration) step {
	return func(p *peer) bool {
		if p.pausedUntil.IsZero() {
			p.pausedUntil = p.swarm.now.Add(d)
		}
		if p.pausedUntil.After(p.swarm.now) {
			return false
		}
		p.pausedUntil = time.Time{}
		return true
	}
}

// closes runs the closing handshake, started by the peer, up to the server's FIN. Everything sent
// must have been echoed before.
func closes(code ws.StatusCode) []step {
	return []step{sends(string(closeFrame(code))), getsClose(code)}
}

func getsClose(code ws.StatusCode) step {
	return func(p *peer) bool {
		if p.gotEOF && p.verifier.closed == int(code) && p.verifier.complete() {
			p.finish(fmt.Sprint("closed with ", code))
		}
		return false
	}
}

// getsGoingAway waits for a close frame with code 1001, completes the frame that it is sending,
// answers, and waits for the server's FIN. The messages counted by markArrived must have been
// echoed before.
func getsGoingAway() step {
	closing, answered := false, false
	return func(p *peer) bool {
		out := &p.sender
		if p.verifier.closed != int(ws.StatusGoingAway) {
			return false
		}
		if p.verifier.messages < p.arrived {
			p.fail(fmt.Errorf("closed with 1001 after %d echoes, want %d, the messages that had arrived", p.verifier.messages, p.arrived))
			return false
		}
		if !closing {
			closing = true
			out.onlyFrame()
		}
		if !answered && (out.stream.done() || out.sent == out.limit) {
			answered = true
			out.stream, out.raw = stream{}, closeFrame(ws.StatusGoingAway)
		}
		if p.gotEOF {
			p.finish("closed with 1001")
		}
		return false
	}
}

// shutsDownWriting sends FIN, and readsToEOF waits for the server's. Everything sent must have been
// echoed before.
func shutsDownWriting() step {
	return func(p *peer) bool {
		if err := netpoll.ShutdownWrite(p.fd); err != nil {
			p.broken = err
			return false
		}
		return true
	}
}

func readsToEOF() step {
	return func(p *peer) bool {
		if p.gotEOF && p.verifier.complete() {
			p.finish("echoed to the end")
		}
		return false
	}
}

// resets ends the connection with a TCP reset.
func resets() step {
	return func(p *peer) bool {
		_ = unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		p.finish("sent a reset")
		return false
	}
}

// disconnects closes the TCP connection without a close frame.
func disconnects() step {
	return func(p *peer) bool {
		p.finish("disconnected")
		return false
	}
}

// drains reads until the connection ends, whatever arrives and however it ends.
func drains() step {
	return func(p *peer) bool {
		p.sender.stream, p.sender.raw = stream{}, nil
		if p.gotEOF || p.broken != nil {
			p.finish("drained")
		}
		return false
	}
}

// A gate is a point in a script at which peers wait until the test opens it.
type gate struct {
	isOpen  bool
	waiting []*peer // peers that reached it before it was opened
}

func (g *gate) wait() step {
	return func(p *peer) bool {
		switch {
		case g.isOpen && p.atGate:
			p.atGate = false
			p.group.waiting--
		case !g.isOpen && !p.atGate:
			p.atGate = true
			p.group.waiting++
			g.waiting = append(g.waiting, p)
		}
		return g.isOpen
	}
}

// openGate opens a gate for the peers that wait there, and for all that reach it later.
func (s *swarm) openGate(g *gate) {
	s.do(func() {
		g.isOpen = true
		for _, p := range g.waiting {
			s.enqueue(p)
		}
	})
}

// waitAtGate waits until all peers of the groups that have not finished wait at a gate.
func (s *swarm) waitAtGate(groups ...*group) {
	s.t.Helper()
	for _, g := range groups {
		s.waitUntil(g.name+" are at the gate", g.atGate)
	}
}

func (g *group) atGate() bool { return g.waiting == g.open }
