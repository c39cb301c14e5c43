package chaos

import "github.com/gobwas/ws"

// halfFrames: the server holds the first half of many frames, short and long,
// or sends it back as a fragment; when the other half comes, the echo is whole.
func halfFrames(s *scene) {
	var g gate
	c := s.herd.crowd("half frames", s.scale.many, near, s.dice, func(i int, d *dice) []step {
		size := 2 + d.below(3000)
		if i%20 == 0 {
			size = 60_000 + d.below(300_000) // shorter and longer than the server's buffer
		}
		return script(
			shakes(),
			[]step{saysPart(&topic{most: size, exact: true}, 1, 6+size/2, d), g.wait(), saysRest(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(&g, c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// dribbledFrames: frames that come a byte at a time cost a read for each byte,
// and no more than that, however long they are.
func dribbledFrames(s *scene) {
	dribbles := func(t *topic, messages int) func(int, *dice) []step {
		return func(_ int, d *dice) []step {
			return script(
				shakes(),
				[]step{bites(1, 0), says(t, messages, d), hears(), bites(0, 0)},
				closes(ws.StatusNormalClosure),
			)
		}
	}
	short := s.herd.crowd("dribbled frames", 5*s.scale.few, near, s.dice, dribbles(&topic{most: 200, fragmented: 50, pinged: 50}, 20))
	long := s.herd.crowd("dribbled frames of 100 KiB", 1+s.scale.few/10, near, s.dice, dribbles(&topic{most: 100 << 10, exact: true}, 1))
	short.ended("closed with 1000")
	long.ended("closed with 1000")
}
