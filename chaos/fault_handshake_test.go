package chaos

import "github.com/gobwas/ws"

// slowHandshakes: most get 408 when their time is over, and not before; those
// whose last bytes come in time are as welcome as any.
func slowHandshakes(s *scene) {
	tooSlow := s.herd.crowd("handshakes that are too slow", s.scale.many*9/10, near, s.dice, s.slowHandshake)
	slow := s.herd.crowd("slow handshakes", s.scale.many/10, near, s.dice, func(d *dice) []step {
		inTime := len(request) - 5
		return script(
			[]step{sends(request[:inTime]), bites(1, s.scale.second), sends(request[inTime:]), isWelcome()},
			[]step{bites(0, 0), says(word, 1, d), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	tooSlow.ended("408")
	slow.ended("closed with 1000")
}

func (s *scene) slowHandshake(*dice) []step {
	return []step{bites(1, s.scale.second), sends(request), isRefused(408, s.scale.handshakeTimeout)}
}
