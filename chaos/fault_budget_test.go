package chaos

import (
	"strings"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// spendBudget has peers that do not read take all the memory that the server
// has for connections, until the gate opens; then they read all of it.
func (s *scene) spendBudget(g *gate) *crowd {
	c := s.herd.crowd("peers that spend the budget", 40, narrow, s.dice, func(d *dice) []step {
		return lateReader(d, goesDeaf(), g.wait())
	})
	s.herd.gathered(c)
	s.herd.jammed(c)
	return c
}

// unfinishedPings: the server's kernel takes what fits its receive buffer, and
// that ends within a control frame, whose rest can come only if there is room for it.
func unfinishedPings(s *scene) {
	var g gate
	spenders := s.spendBudget(&g)
	s.fillReceiveBuffers()
	s.herd.open(&g)
	spenders.ended("closed with 1000")
}

// manyHalfPings: the same, when whatever memory there may be for the beginning
// of a control frame is spent as well, by peers who never say the rest.
func manyHalfPings(s *scene) {
	const many = 2000
	var g, h gate
	spenders := s.spendBudget(&g)
	halves := s.herd.crowd("half pings", many, near, s.dice, func(*dice) []step {
		const ping = "\x89\xfd" // of 125 bytes, of which two are missing
		return script(
			shakes(),
			[]step{sends(ping + strings.Repeat("x", 127)), h.wait(), shutsWriting(), takesWhatComes()},
		)
	})
	s.herd.gathered(halves)
	s.fillReceiveBuffers()
	s.herd.open(&h)
	s.herd.open(&g)
	spenders.ended("closed with 1000")
	halves.ended("taken what came")
}

// fillReceiveBuffers stops the server while peers say pings until its kernel
// takes no more; then it goes on.
func (s *scene) fillReceiveBuffers() {
	var g gate
	c := s.herd.crowd("pinging peers", s.scale.few, far, s.dice, func(d *dice) []step {
		return script(
			shakes(),
			[]step{g.wait(), goesOn(&topic{most: 1, pinged: 100}, 0, d), pauses(200 * time.Millisecond), stops(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(c)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.herd.open(&g)
	s.herd.lasts(100 * time.Millisecond)
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	c.ended("closed with 1000")
}

// unreadHalves: the server holds the most of long frames when the budget is spent; then
// comes the end of them, and their peers are slow to read.
func unreadHalves(s *scene) {
	var g, h gate
	const size = 200_000
	c := s.herd.crowd("peers with unread halves", 12, far, s.dice, func(d *dice) []step {
		return script(
			shakes(),
			[]step{goesDeaf(), saysPart(&topic{most: size, exact: true}, 1, size-10_000, d), h.wait(), saysRest()},
			[]step{pauses(200 * time.Millisecond), listens(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(c)
	spenders := s.spendBudget(&g)
	s.herd.open(&h)
	c.ended("closed with 1000")
	s.herd.open(&g)
	spenders.ended("closed with 1000")
}
