package chaos

import (
	"math"

	"github.com/gobwas/ws"
)

// zeroWindows: peers say as much as the server takes and read nothing, until
// every buffer on the way is full; then they read, and every byte is there.
func zeroWindows(s *scene) {
	var g gate
	c := s.herd.crowd("zero windows", s.scale.some/5, narrow, s.dice, func(d *dice) []step { return lateReader(d, goesDeaf(), g.wait()) })
	s.herd.gathered(c)
	s.herd.jammed(c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// sippingReaders: the same, but they read a byte now and then, which never
// quite stops the server's sending.
func sippingReaders(s *scene) {
	var g gate
	before := sips(1, s.scale.second)
	c := s.herd.crowd("sipping readers", s.scale.some/5, narrow, s.dice, func(d *dice) []step { return lateReader(d, before, g.wait()) })
	s.herd.gathered(c)
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	c.ended("closed with 1000")
}

// lateReader reads as the step before says, and all after the wait.
func lateReader(d *dice, before, wait step) []step {
	return script(
		shakes(),
		[]step{before, goesOn(chatter, 0, d), wait, listens(), sips(0, 0), stops(), hears()},
		closes(ws.StatusNormalClosure),
	)
}

// neverReading: peers that never read cost what their buffers hold, until
// -write-timeout cuts them off. Most say what the kernel's buffers hold, and
// the server cannot know that it was not read; one of ten says as much as is taken.
func neverReading(s *scene) {
	var g gate
	modest := s.herd.crowd("modest peers that do not read", s.scale.some*9/10, narrow, s.dice, func(d *dice) []step {
		return script(
			shakes(),
			[]step{goesDeaf(), says(&topic{most: 8 << 10, exact: true}, 1, d), g.wait(), listens(), hears()},
			closes(ws.StatusNormalClosure),
		)
	})
	greedy := s.herd.crowd("greedy peers that do not read", s.scale.some/10, narrow, s.dice, func(d *dice) []step {
		return script(shakes(), []step{goesDeaf(), goesOn(chatter, 0, d), g.wait(), listens(), takesWhatComes()})
	})
	s.herd.gathered(modest)
	s.herd.until("the server has cut off the greedy", func() bool { return s.server.descriptors(math.MaxInt) <= s.idle+modest.open })
	s.herd.lasts(s.scale.spell)
	s.herd.open(&g)
	modest.ended("closed with 1000")
	greedy.ended("taken what came", "connection reset by peer")
}
