package chaos

import (
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// spendBudget has peers that do not read take all the memory that the server
// has for connections, until the gate opens; then they read all of it.
func (s *scene) spendBudget(g *gate) *crowd {
	c := s.herd.crowd("peers that spend the budget", 60, narrow, s.dice, func(d *dice) []step {
		return script(shakes(), []step{goesDeaf(), goesOn(page, 0, d), g.wait(), listens(), stops(), hears()}, closes(ws.StatusNormalClosure))
	})
	s.herd.gathered(c)
	s.herd.lasts(300 * time.Millisecond)
	return c
}

// unfinishedPings: the server's kernel takes what fits its receive buffer, and that
// ends within a control frame, of which the rest can come only if there is room for it.
func unfinishedPings(s *scene) {
	var g, h gate
	spenders := s.spendBudget(&g)
	c := s.herd.crowd("pinging peers", s.scale.few, far, s.dice, func(d *dice) []step {
		return script(shakes(), []step{h.wait(), goesOn(&topic{most: 1, pinged: 100}, 0, d), pauses(s.scale.spell), stops(), hears()}, closes(ws.StatusNormalClosure))
	})
	s.herd.gathered(c)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.herd.open(&h)
	s.herd.lasts(s.scale.spell / 2)
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	c.ended("closed with 1000")
	s.herd.open(&g)
	spenders.ended("closed with 1000")
}

// unreadHalves: the server holds the most of long frames when the budget is spent; then
// comes the end of them, and their peers are slow to read.
func unreadHalves(s *scene) {
	var g, h gate
	const size = 200_000
	c := s.herd.crowd("peers with unread halves", 12, far, s.dice, func(d *dice) []step {
		return script(
			shakes(),
			[]step{goesDeaf(), saysPart(&topic{most: size, exact: true}, 1, size-10_000, d), h.wait(), saysRest(), pauses(s.scale.spell), listens(), hears()},
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
