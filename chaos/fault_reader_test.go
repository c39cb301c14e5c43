package chaos

import (
	"github.com/gobwas/ws"
)

// zeroWindows: peers say as much as the server takes and read nothing, until
// every buffer on the way is full; then they read, and every byte is there.
func zeroWindows(s *scene) {
	var g gate
	c := s.herd.crowd("zero windows", s.scale.some/5, narrow, s.dice, func(_ int, d *dice) []step {
		return script(
			shakes(),
			[]step{goesDeaf(), goesOn(chatter, 0, d), g.wait(), listens(), stops(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(&g, c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// sippingReaders: the same, but they read a byte now and then, which never
// quite stops the server's sending.
func sippingReaders(s *scene) {
	var g gate
	c := s.herd.crowd("sipping readers", s.scale.some/5, narrow, s.dice, func(_ int, d *dice) []step {
		return script(
			shakes(),
			[]step{sips(1, s.scale.second), goesOn(chatter, 0, d), g.wait(), sips(0, 0), stops(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.herd.gathered(&g, c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// neverReading: peers that never read cost what their buffers hold, until
// -write-timeout cuts them off. Most say what the kernel's buffers hold, and
// the server cannot know that it was not read; one of ten says as much as is taken.
func neverReading(s *scene) {
	var g gate
	modest := s.herd.crowd("modest peers that do not read", s.scale.some*9/10, narrow, s.dice, func(_ int, d *dice) []step {
		return script(
			shakes(),
			[]step{goesDeaf(), says(&topic{most: 8 << 10, exact: true}, 1, d), g.wait(), listens(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	greedy := s.herd.crowd("greedy peers that do not read", s.scale.some/10, narrow, s.dice, func(_ int, d *dice) []step {
		return script(shakes(), []step{goesDeaf(), goesOn(chatter, 0, d), g.wait(), listens(), takesWhatComes()})
	})
	s.herd.gathered(&g, modest)
	s.herd.lasts(s.scale.writeTimeout + s.scale.spell)
	s.herd.open(&g)
	modest.ended("closed with 1000")
	greedy.ended("taken what came")
}
