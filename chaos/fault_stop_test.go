package chaos

import (
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// stopped: the whole server stands still for a while and everything queues
// up before it; then it goes on as if nothing had been.
func stopped(s *scene) {
	var g gate
	c := s.herd.crowd("peers of a stopped server", 10*s.scale.few, near, s.dice, func(d *dice) []step {
		return script(shakes(), []step{goesOn(chatter, 8, d), g.wait(), stops(), hears()}, closes(ws.StatusNormalClosure))
	})
	s.herd.gathered(c)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.herd.lasts(s.scale.stop)
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// terminate: everybody talks, some have not read for a while, and nobody stops
// when the server is told to. What had arrived before is echoed; then comes
// 1001; and the process ends by itself.
func (s *scene) terminate(r *row) *testimony {
	n := s.scale.many / 5
	if s.descriptors > 0 {
		n = min(n, s.descriptors/4)
	}
	var g gate
	talking := s.herd.crowd("talking peers", n, near, s.dice, func(d *dice) []step {
		return script(shakes(), []step{goesOn(chatter, 8, d), g.wait(), isTold()})
	})
	late := s.herd.crowd("peers that have not asked yet", n/10, near, s.dice, func(d *dice) []step {
		return []step{sends(request[:d.below(len(request))]), g.wait(), isRefused(503, 0)}
	})
	var behind *crowd
	if s.exact { // the others have a -write-timeout that a slow machine may not keep
		behind = s.herd.crowd("peers that are behind with reading", min(n/10, 10), narrow, s.dice, func(d *dice) []step {
			return script(shakes(), []step{goesDeaf(), goesOn(chatter, 0, d), g.wait(), listens(), isTold()})
		})
		s.herd.gathered(behind)
		s.herd.jammed(behind)
	}
	s.herd.gathered(talking, late)
	s.herd.lasts(s.scale.spell)
	s.measures(r)
	s.herd.markArrived()
	began := time.Now()
	s.server.signal(syscall.SIGTERM)
	s.herd.open(&g)
	talking.ended("told 1001")
	late.ended("503", "408") // whatever came first
	if behind != nil {
		behind.ended("told 1001")
	}
	said := s.witnesses.outlast()
	if said.Told != witnessCount {
		s.t.Errorf("%d witnesses were told 1001, of %d", said.Told, witnessCount)
	}
	if first := said.Unanswered; !first.IsZero() && first.Before(began) {
		s.t.Errorf("a witness was told 1001 in place of the echo of what it had said %v before the signal", began.Sub(first))
	}
	if took := time.Since(began); took > drainTimeout {
		s.t.Errorf("the server took %v to say goodbye", took)
	}
	return said
}
