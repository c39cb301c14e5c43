package chaos

import "github.com/gobwas/ws"

// halfFrames sends the first half of many frames, short and long, which the server holds or echoes
// as a fragment. When the other half arrives, the echo must be complete.
func halfFrames(s *scenario) {
	var g gate
	peers := s.swarm.group("half frames", s.scale.many, near, s.rng, func(r *rng) []step { return halfFrame(r, g.wait()) })
	s.swarm.waitAtGate(peers)
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	peers.wantOutcome("closed with 1000")
}

func halfFrame(r *rng, halfway step) []step {
	t := traffic{maxSize: 2 + r.intN(3000), fixed: true}
	if r.chance(5) {
		t.maxSize = 60_000 + r.intN(300_000) // some shorter, some longer than the server's buffer
	}
	return script(
		upgrades(),
		[]step{sendsPart(&t, 1, 6+t.maxSize/2, r), halfway, sendsRemainder(), getsEcho()},
		closes(ws.StatusNormalClosure),
	)
}

// bytewiseFrames sends frames byte by byte. Each byte may cost the server one read, whatever the
// frame's length.
func bytewiseFrames(s *scenario) {
	short := s.swarm.group("frames sent byte by byte", 2*s.scale.few, near, s.rng, bytewiseFrame)
	long := s.swarm.group("long frames sent byte by byte", 1+s.scale.few/25, near, s.rng, func(r *rng) []step {
		return bytewise(&traffic{maxSize: min(100<<10, s.scale.bigMessage/64), fixed: true}, 1, r)
	})
	short.wantOutcome("closed with 1000")
	long.wantOutcome("closed with 1000")
}

func bytewiseFrame(r *rng) []step {
	return bytewise(&traffic{maxSize: 200, fragmented: 50, pinged: 50}, 10, r)
}

func bytewise(t *traffic, messages int, r *rng) []step {
	return script(
		upgrades(),
		[]step{writesAt(1, 0), sendsMessages(t, messages, r), getsEcho(), writesAt(0, 0)},
		closes(ws.StatusNormalClosure),
	)
}
