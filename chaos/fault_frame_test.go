package chaos

import "github.com/gobwas/ws"

// halfFrames: the server holds the first half of many frames, short and long,
// or sends it back as a fragment; when the other half comes, the echo is whole.
func halfFrames(s *scene) {
	var g gate
	c := s.herd.crowd("half frames", s.scale.many, near, s.dice, func(d *dice) []step { return halfFrame(d, g.wait()) })
	s.herd.gathered(c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

func halfFrame(d *dice, halfway step) []step {
	t := topic{most: 2 + d.below(3000), exact: true}
	if d.chance(5) {
		t.most = 60_000 + d.below(300_000) // shorter and longer than the server's buffer
	}
	return script(
		shakes(),
		[]step{saysPart(&t, 1, 6+t.most/2, d), halfway, saysRest(), hears()},
		closes(ws.StatusNormalClosure),
	)
}

// dribbledFrames: frames that come a byte at a time cost a read for each byte,
// and no more than that, however long they are.
func dribbledFrames(s *scene) {
	short := s.herd.crowd("dribbled frames", 2*s.scale.few, near, s.dice, dribbledFrame)
	long := s.herd.crowd("long dribbled frames", 1+s.scale.few/25, near, s.dice, func(d *dice) []step {
		return dribbled(&topic{most: min(100<<10, s.scale.big/64), exact: true}, 1, d)
	})
	short.ended("closed with 1000")
	long.ended("closed with 1000")
}

func dribbledFrame(d *dice) []step {
	return dribbled(&topic{most: 200, fragmented: 50, pinged: 50}, 10, d)
}

func dribbled(t *topic, messages int, d *dice) []step {
	return script(
		shakes(),
		[]step{bites(1, 0), says(t, messages, d), hears(), bites(0, 0)},
		closes(ws.StatusNormalClosure),
	)
}
