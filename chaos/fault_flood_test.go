package chaos

import "github.com/gobwas/ws"

// floods runs peers that send small or large frames as fast as the server accepts them, and others
// that send a ping now and then.
func floods(s *scenario) {
	var g gate
	floods := s.swarm.group("floods", s.scale.few, near, s.rng, func(r *rng) []step { return flood(r, g.wait()) })
	pings := s.swarm.group("pings", s.scale.few, near, s.rng, func(r *rng) []step {
		return script(
			upgrades(),
			[]step{writesAt(0, s.scale.interval/50), keepsSending(&traffic{maxSize: 1, pinged: 100}, 1, r), g.wait(), stopsSending(), getsEcho()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.swarm.waitAtGate(floods, pings)
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	floods.wantOutcome("closed with 1000")
	pings.wantOutcome("closed with 1000")
}

func flood(r *rng, wait step) []step {
	t := shortMessages
	if r.chance(30) {
		t = largeMessages
	}
	return script(upgrades(), []step{keepsSending(t, 10_000, r), wait, stopsSending(), getsEcho()}, closes(ws.StatusNormalClosure))
}

// bigMessages sends messages much longer than the server's buffer, in one frame or in fragments,
// while other peers send single bytes.
func bigMessages(s *scenario) {
	for _, fragmented := range []int{0, 100} {
		big := s.swarm.group("big messages", 2, near, s.rng, func(r *rng) []step {
			return script(
				upgrades(),
				[]step{sendsMessages(&traffic{maxSize: s.scale.bigMessage, fixed: true, fragmented: fragmented}, 1, r), getsEcho()},
				closes(ws.StatusNormalClosure),
			)
		})
		small := s.swarm.group("single bytes", s.scale.few, near, s.rng, func(r *rng) []step {
			return script(
				upgrades(),
				[]step{writesAt(0, s.scale.interval/50), sendsMessages(&traffic{maxSize: 1}, 50, r), getsEcho()},
				closes(ws.StatusNormalClosure),
			)
		})
		big.wantOutcome("closed with 1000")
		small.wantOutcome("closed with 1000")
	}
}
