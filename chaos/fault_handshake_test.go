package chaos

import "github.com/gobwas/ws"

// slowHandshakes sends requests slowly. Most are refused with 408 after -handshake-timeout, and not
// before; those whose last bytes arrive in time are upgraded.
func slowHandshakes(s *scenario) {
	tooSlow := s.swarm.group("handshakes that are too slow", s.scale.many*9/10, near, s.rng, s.slowHandshake)
	slow := s.swarm.group("slow handshakes", s.scale.many/10, near, s.rng, func(r *rng) []step {
		inTime := len(request) - 5
		return script(
			[]step{sends(request[:inTime]), writesAt(1, s.scale.interval), sends(request[inTime:]), gets101()},
			[]step{writesAt(0, 0), sendsMessages(shortMessages, 1, r), getsEcho()},
			closes(ws.StatusNormalClosure),
		)
	})
	tooSlow.wantOutcome("408")
	slow.wantOutcome("closed with 1000")
}

func (s *scenario) slowHandshake(*rng) []step {
	return []step{writesAt(1, s.scale.interval), sends(request), getsRefusal(408, s.scale.handshakeTimeout)}
}
