package chaos

import (
	"fmt"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A step is a part of a peer's script. It is called whenever something may
// have happened to the peer, until it says that it is done.
type step func(p *peer) (done bool)

// script joins steps and lists of steps.
func script(parts ...[]step) (all []step) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// connects waits for TCP alone.
func connects() step { return func(p *peer) bool { return p.canWrite } }

// sends sends bytes as they are.
func sends(bytes string) step {
	begun := false
	return func(p *peer) bool {
		if !begun {
			p.mouth.raw, begun = []byte(bytes), true
		}
		return len(p.mouth.raw) == 0
	}
}

// shakes is the opening handshake.
func shakes() []step { return []step{sends(request), isWelcome()} }

// isWelcome waits for the answer 101.
func isWelcome() step { return func(p *peer) bool { return p.ear.status == 101 } }

// isRefused waits for another status and the end of the connection, neither of
// which may come before its time.
func isRefused(status int, after time.Duration) step {
	return func(p *peer) bool {
		if p.ear.status != status || !p.ended {
			return false
		}
		const tick = 20 * time.Millisecond // the server's clock
		if waited := p.herd.now.Sub(p.came); waited < after-tick {
			p.fail(fmt.Errorf("%d after %v", status, waited))
			return false
		}
		p.finish(fmt.Sprint(status))
		return false
	}
}

// says says so many messages, as fast as the server takes them.
func says(t *topic, messages int, d *dice) step { return saysPart(t, messages, 0, d) }

// saysPart says the first bytes of them, and saysRest the others.
func saysPart(t *topic, messages, bytes int, d *dice) step {
	speech, begun := newSpeech(t, d.roll(), messages), false
	return func(p *peer) bool {
		if !begun {
			begun = true
			p.begin(speech)
			p.mouth.limit = bytes
		}
		return p.mouth.speech.over() || bytes > 0 && p.mouth.sent == bytes
	}
}

func saysRest() step {
	return func(p *peer) bool {
		p.mouth.limit = 0
		return p.mouth.speech.over()
	}
}

// goesOn begins to say messages without end, not more of them than the window
// being without an echo. The script goes on meanwhile.
func goesOn(t *topic, window int, d *dice) step {
	speech := newSpeech(t, d.roll(), endless)
	return func(p *peer) bool {
		p.begin(speech)
		p.mouth.window = window
		return true
	}
}

// stops ends the message that it is at, and says no more.
func stops() step {
	return func(p *peer) bool {
		unsaid := p.mouth.speech.left
		p.mouth.speech.left, p.mouth.window = 0, 0
		if n := len(p.ear.owed); n > 0 {
			p.ear.owed[n-1].left -= unsaid
		}
		return p.mouth.speech.over()
	}
}

// hears waits until all is echoed that was said.
func hears() step { return func(p *peer) bool { return p.ear.content() } }

// bites sets how it speaks, and sips how it reads: so many bytes at a time, so often.
func bites(bytes int, every time.Duration) step {
	return func(p *peer) bool { p.mouth.bites = pace{bytes: bytes, every: every}; return true }
}

func sips(bytes int, every time.Duration) step {
	return func(p *peer) bool { p.sips = pace{bytes: bytes, every: every}; return true }
}

// goesDeaf reads nothing any more, and listens reads again.
func goesDeaf() step { return func(p *peer) bool { p.deaf = true; return true } }
func listens() step  { return func(p *peer) bool { p.deaf = false; return true } }

func pauses(d time.Duration) step {
	return func(p *peer) bool {
		if p.pausedUntil.IsZero() {
			p.pausedUntil = p.herd.now.Add(d)
		}
		if p.pausedUntil.After(p.herd.now) {
			return false
		}
		p.pausedUntil = time.Time{}
		return true
	}
}

// closes is the closing handshake, begun by the peer, to the server's FIN. All
// that was said must have been echoed before.
func closes(code ws.StatusCode) []step {
	return []step{sends(string(closeFrame(code))), isClosed(code)}
}

func isClosed(code ws.StatusCode) step {
	return func(p *peer) bool {
		if p.ended && p.ear.closed == int(code) && p.ear.content() {
			p.finish(fmt.Sprint("closed with ", code))
		}
		return false
	}
}

// isTold waits for close code 1001, finishes the frame that it is saying,
// answers, and waits for the server's FIN. What was marked must have been
// echoed before.
func isTold() step {
	told, answered := false, false
	return func(p *peer) bool {
		m := &p.mouth
		if p.ear.closed != int(ws.StatusGoingAway) {
			return false
		}
		if p.ear.messages < p.mark {
			p.fail(fmt.Errorf("told 1001 after %d messages, of %d that had arrived", p.ear.messages, p.mark))
			return false
		}
		if !told {
			told = true
			m.onlyFrame()
		}
		if !answered && (m.speech.over() || m.sent == m.limit) {
			answered = true
			m.speech, m.raw = speech{}, closeFrame(ws.StatusGoingAway)
		}
		if p.ended {
			p.finish("told 1001")
		}
		return false
	}
}

// shutsWriting ends the peer's side, and hearsOut waits for the end of the
// server's: all that was said must have been echoed before.
func shutsWriting() step {
	return func(p *peer) bool {
		if err := netpoll.ShutdownWrite(p.fd); err != nil {
			p.broken = err
			return false
		}
		return true
	}
}

func hearsOut() step {
	return func(p *peer) bool {
		if p.ended && p.ear.content() {
			p.finish("heard out")
		}
		return false
	}
}

// resets breaks the connection: the server's kernel is sent a reset.
func resets() step {
	return func(p *peer) bool {
		_ = unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		p.finish("reset it")
		return false
	}
}

// leaves closes the connection without a word.
func leaves() step {
	return func(p *peer) bool {
		p.finish("left")
		return false
	}
}

// takesWhatComes reads until the end, whatever it is and whatever it comes to.
func takesWhatComes() step {
	return func(p *peer) bool {
		p.mouth.speech, p.mouth.raw = speech{}, nil
		if p.ended || p.broken != nil {
			p.finish("taken what came")
		}
		return false
	}
}

// A gate is where peers wait for each other and for the test.
type gate struct {
	isOpen  bool
	waiting []*peer // those who came while it was shut
}

func (g *gate) wait() step {
	return func(p *peer) bool {
		switch {
		case g.isOpen && p.atGate:
			p.atGate = false
			p.crowd.waiting--
		case !g.isOpen && !p.atGate:
			p.atGate = true
			p.crowd.waiting++
			g.waiting = append(g.waiting, p)
		}
		return g.isOpen
	}
}

// open lets those who wait at a gate pass, and all who come later.
func (h *herd) open(g *gate) {
	h.do(func() {
		g.isOpen = true
		for _, p := range g.waiting {
			h.goOn(p)
		}
	})
}

// gathered waits until all who are left of some crowds wait at a gate.
func (h *herd) gathered(crowds ...*crowd) {
	h.t.Helper()
	for _, c := range crowds {
		h.until(c.name+" are ready", c.gathered)
	}
}

func (c *crowd) gathered() bool { return c.waiting == c.open }
