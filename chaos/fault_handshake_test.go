package chaos

import "github.com/gobwas/ws"

// slowHandshakes: most get 408 when their time is over, and not before; those
// whose last bytes come in time are as welcome as any.
func slowHandshakes(s *scene) {
	inTime := len(request) - 5
	c := s.herd.crowd("slow handshakes", s.scale.many, near, s.dice, func(i int, d *dice) []step {
		if i%10 > 0 {
			return []step{bites(1, s.scale.second), sends(request), isRefused(408, s.scale.handshakeTimeout)}
		}
		return script(
			[]step{sends(request[:inTime]), bites(1, s.scale.second), sends(request[inTime:]), isWelcome()},
			[]step{bites(0, 0), says(word, 1, d), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	c.ended("408", "closed with 1000")
	if got, want := c.ends["408"], c.size-(c.size+9)/10; got != want {
		s.t.Errorf("%d got 408, want %d", got, want)
	}
}
