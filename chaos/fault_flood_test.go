package chaos

import "github.com/gobwas/ws"

// floods: some peers send small frames, or large ones, as fast as the server
// takes them, while others ping once in a while.
func floods(s *scene) {
	var g gate
	floods := s.herd.crowd("floods", s.scale.few, near, s.dice, func(d *dice) []step { return flood(d, g.wait()) })
	pings := s.herd.crowd("pings", s.scale.few, near, s.dice, func(d *dice) []step {
		return script(
			shakes(),
			[]step{bites(0, s.scale.second/50), goesOn(&topic{most: 1, pinged: 100}, 1, d), g.wait(), stops(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(floods, pings)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	floods.ended("closed with 1000")
	pings.ended("closed with 1000")
}

func flood(d *dice, wait step) []step {
	t := word
	if d.chance(30) {
		t = page
	}
	return script(shakes(), []step{goesOn(t, 10_000, d), wait, stops(), hears()}, closes(ws.StatusNormalClosure))
}

// bigMessages: messages of many buffers' length pass through one, in one frame
// or in fragments, while others say single bytes.
func bigMessages(s *scene) {
	for _, fragmented := range []int{0, 100} {
		big := s.herd.crowd("big messages", 2, near, s.dice, func(d *dice) []step {
			return script(
				shakes(),
				[]step{says(&topic{most: s.scale.big, exact: true, fragmented: fragmented}, 1, d), hears()},
				closes(ws.StatusNormalClosure),
			)
		})
		small := s.herd.crowd("single bytes", s.scale.few, near, s.dice, func(d *dice) []step {
			return script(
				shakes(),
				[]step{bites(0, s.scale.second/50), says(&topic{most: 1}, 50, d), hears()},
				closes(ws.StatusNormalClosure),
			)
		})
		big.ended("closed with 1000")
		small.ended("closed with 1000")
	}
}
