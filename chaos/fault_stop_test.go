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
	c := s.herd.crowd("peers of a stopped server", 10*s.scale.few, near, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{goesOn(chatter, 8, d), g.wait(), stops(), hears()}, closes(ws.StatusNormalClosure))
	})
	s.herd.gathered(&g, c)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.herd.lasts(s.scale.stop)
	s.server.signal(syscall.SIGCONT)
	s.excuse = time.Since(began)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// terminate: everybody talks, and nobody stops when the server is told to. What
// had arrived before is echoed; then comes 1001; and the process ends by itself.
func (s *scene) terminate() (said *testimony, peak int, sum *totals) {
	var g gate
	talking := s.herd.crowd("talking peers", s.scale.many/5, near, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{goesOn(chatter, 8, d), g.wait(), isTold()})
	})
	s.herd.gathered(&g, talking)
	s.herd.lasts(s.scale.spell)
	peak = s.server.peak()
	s.herd.markArrived()
	before := time.Now()
	s.server.signal(syscall.SIGTERM)
	s.herd.open(&g)
	talking.ended("told 1001")
	said = s.witnesses.outlast()
	if said.Told != witnessCount {
		s.t.Errorf("%d witnesses were told 1001", said.Told)
	}
	if !said.Unanswered.IsZero() && said.Unanswered.Before(before) {
		s.t.Errorf("a witness was told 1001 in place of an echo, %v before the signal", before.Sub(said.Unanswered))
	}
	sum = s.server.stop()
	if took := time.Since(before); took > soon {
		s.t.Errorf("the server took %v to end", took)
	}
	return said, peak, sum
}
