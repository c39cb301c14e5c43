package chaos

import (
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// acceptStorm: connections that are closed or reset as soon as they are there,
// and between them some that are in earnest.
func acceptStorm(s *scene) {
	c := s.herd.crowd("storming peers", 2*s.scale.many, near, s.dice, func(i int, d *dice) []step {
		switch {
		case i%20 == 0:
			return script(shakes(), []step{says(word, 1, d), hears()}, closes(ws.StatusNormalClosure))
		case i%2 == 0:
			return []step{connects(), resets()}
		}
		return []step{connects(), leaves()}
	})
	ways := []string{"closed with 1000", "reset it", "left"}
	if s.descriptors > 0 {
		ways = append(ways, "503") // those before may not be gone yet
	}
	c.ended(ways...)
}

// closedInBacklog: the server is stopped, connections come and most of them
// go, and when it goes on it finds the dead among the living.
func closedInBacklog(s *scene) {
	var g gate
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	const backlog = 2000 // less than the kernel's usual limit of 4096
	c := s.herd.crowd("peers in the backlog", min(s.scale.many, backlog), near, s.dice, func(i int, d *dice) []step {
		switch i % 5 {
		case 0:
			return script([]step{connects(), g.wait()}, shakes(), []step{says(word, 1, d), hears()}, closes(ws.StatusNormalClosure))
		case 1:
			return []step{connects(), g.wait(), resets()}
		case 2:
			return []step{connects(), g.wait(), leaves()}
		case 3:
			return []step{sends(request), g.wait(), resets()}
		}
		return []step{sends(request), g.wait(), shutsWriting(), takesWhatComes()}
	})
	s.herd.gathered(&g, c)
	s.herd.open(&g)
	s.herd.until("those who leave have left", func() bool { return c.open <= c.size*2/5 })
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	c.ended("closed with 1000", "reset it", "left", "taken what came")
}

// beyondMaxConns: of twice as many connections as the server may have, some
// work, the others get 503, and when the first have gone there is room again.
func beyondMaxConns(s *scene) {
	var g gate
	c := s.herd.crowd("peers beyond -max-conns", 512, near, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{says(word, 1, d), hears(), g.wait()}, closes(ws.StatusNormalClosure))
	})
	storm(s, c, &g)
}

// beyondDescriptors: the same when the process has no descriptors left at all.
func beyondDescriptors(s *scene) {
	const left = 20
	s.server.allowDescriptors(s.server.descriptors() + left)
	var g gate
	c := s.herd.crowd("peers beyond the descriptors", 512, near, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{says(word, 1, d), hears(), g.wait()}, closes(ws.StatusNormalClosure))
	})
	storm(s, c, &g)
	s.server.allowDescriptors(s.descriptors)
}

// storm waits until each of a crowd is served or sent away, sees that the
// server then rests, and that it serves others when they have gone.
func storm(s *scene, c *crowd, g *gate) {
	s.herd.until("everybody is served or sent away", func() bool { return len(g.waiting) == c.open })
	served := c.open
	const second = time.Second
	before := s.server.cpu()
	s.herd.lasts(second)
	if used := s.server.cpu() - before; used > second/2 && !underRace {
		s.t.Errorf("the server has used %v of processor time in %v, in which it had a dozen witnesses to serve: it spins", used, second)
	}
	if served == 0 {
		s.t.Errorf("nobody was served")
	}
	s.herd.open(g)
	c.ended("closed with 1000", "503", "connection reset by peer", "ended by the server (close code 0)")
	s.t.Logf("%s: %d served; %s", c.name, served, tally(c.ends))

	after := s.herd.crowd("peers after the storm", served, near, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{says(word, 1, d), hears()}, closes(ws.StatusNormalClosure))
	})
	after.ended("closed with 1000")
}
