package chaos

import (
	"math"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// acceptStorm: connections that are closed or reset as soon as they are there,
// and between them some that are in earnest.
func acceptStorm(s *scene) {
	hasty := s.herd.crowd("storming peers", 2*s.scale.many, near, s.dice, func(d *dice) []step {
		if d.chance(50) {
			return []step{connects(), resets()}
		}
		return []step{connects(), leaves()}
	})
	earnest := s.herd.crowd("peers in earnest", s.scale.many/10, near, s.dice, shortTalk)
	hasty.ended("reset it", "left")
	if s.descriptors > 0 {
		earnest.ended("closed with 1000", "503") // the hasty may not be gone yet
	} else {
		earnest.ended("closed with 1000")
	}
}

func shortTalk(d *dice) []step {
	return script(shakes(), []step{says(word, 1, d), hears()}, closes(ws.StatusNormalClosure))
}

// closedInBacklog: the server is stopped, connections come and most of them
// go, and when it goes on it finds the dead among the living.
func closedInBacklog(s *scene) {
	const backlog = 2000 // less than the kernel's usual limit of 4096
	var g gate
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	patient := s.herd.crowd("patient peers in the backlog", min(s.scale.many, backlog)/4, near, s.dice, func(d *dice) []step {
		return script([]step{connects()}, shortTalk(d))
	})
	hasty := s.herd.crowd("hasty peers in the backlog", min(s.scale.many, backlog)*3/4, near, s.dice, func(d *dice) []step {
		begin := connects()
		if d.chance(50) {
			begin = sends(request)
		}
		return script([]step{begin, g.wait()}, ways[d.below(2)].end())
	})
	s.herd.gathered(hasty)
	s.herd.open(&g)
	s.herd.until("hasty peers have left", hasty.over)
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	patient.ended("closed with 1000")
	hasty.ended("reset it", "left")
}

// beyondMaxConns: of twice as many connections as the server may have, some
// work, the others get 503, and when the first have gone there is room again.
func beyondMaxConns(s *scene) { s.crush(2*s.descriptors, s.server.most-witnessCount) }

// beyondDescriptors: the same when the process has no descriptors left at all.
func beyondDescriptors(s *scene) {
	s.quietens()
	few := s.idle + 20
	s.server.allowDescriptors(few)
	s.crush(2*s.descriptors, few-s.server.descriptors(few))
	s.server.allowDescriptors(s.descriptors)
}

// crush has n connections come where there is room for some. Each is served or
// sent away; the server then rests; and it serves others when the first have
// gone.
func (s *scene) crush(n, room int) {
	var g gate
	c := s.herd.crowd("peers in the crush", n, near, s.dice, func(d *dice) []step {
		return script(shakes(), []step{says(word, 1, d), hears(), g.wait()}, closes(ws.StatusNormalClosure))
	})
	s.herd.until("everybody is served or sent away", c.gathered)
	served := c.open
	if served != room {
		s.t.Errorf("%d of %d were served, and there is room for %d", served, n, room)
	}
	s.wantsRest()
	s.herd.open(&g)
	c.ended("closed with 1000", "503", "connection reset by peer", "ended by the server (close code 0)")
	s.t.Logf("%d in the crush: %s", n, tally(c.ends))

	s.quietens()
	after := s.herd.crowd("peers after the crush", served, near, s.dice, shortTalk)
	after.ended("closed with 1000")
}

// quietens waits until the server has closed all but its witnesses' connections.
func (s *scene) quietens() {
	s.herd.until("the server has closed what it had", func() bool { return s.server.descriptors(math.MaxInt) <= s.idle })
}

// wantsRest sees that the server does not spin: it has a dozen witnesses to
// serve, which takes a small part of a processor.
func (s *scene) wantsRest() {
	const while = 500 * time.Millisecond
	before := s.server.cpu()
	s.herd.lasts(while)
	if used := s.server.cpu() - before; used > while/3 && !underRace {
		s.t.Errorf("the server has used %v of processor time in %v in which there was little to do", used, while)
	}
}
