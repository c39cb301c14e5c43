package chaos

import "time"

// stages are how far a connection comes before its peer ends it.
var stages = []struct {
	name string
	link link
	come func(d *dice) []step
}{
	{"before the request", near, func(*dice) []step { return []step{connects()} }},
	{"in the request", near, func(d *dice) []step { return []step{sends(request[:1+d.below(len(request)-1)])} }},
	{"after the request", near, func(*dice) []step { return []step{sends(request)} }},
	{"after the answer", near, func(*dice) []step { return shakes() }},
	{"in a header", near, func(d *dice) []step { return script(shakes(), []step{saysPart(page, 1, 1+d.below(13), d)}) }},
	{"in a frame", near, func(d *dice) []step { return script(shakes(), []step{saysPart(page, 1, 20+d.below(60_000), d)}) }},
	{"between fragments", near, func(d *dice) []step { return script(shakes(), []step{saysPart(pieces, 1, 20+d.below(8000), d)}) }},
	{"in a message that is cut through", near, func(d *dice) []step { return script(shakes(), []step{saysPart(book, 1, 500_000, d)}) }},
	{"after a message", near, func(d *dice) []step { return script(shakes(), []step{says(chatter, 1, d)}) }},
	{"after its echo", near, func(d *dice) []step { return script(shakes(), []step{says(chatter, 3, d), hears()}) }},
	{"with a backlog", narrow, func(d *dice) []step {
		return script(shakes(), []step{goesDeaf(), goesOn(page, 0, d), pauses(50 * time.Millisecond)})
	}},
	{"after a close frame", near, func(*dice) []step { return script(shakes(), []step{sends(string(closeFrame(1000)))}) }},
	{"after the closing handshake", near, func(*dice) []step {
		return script(shakes(), []step{sends(string(closeFrame(1000))), func(p *peer) bool { return p.ear.closed == 1000 }})
	}},
}

// ways are how its peer ends it.
var ways = []struct {
	name string
	end  func() []step
}{
	{"a reset", func() []step { return []step{resets()} }},
	{"a FIN and no more", func() []step { return []step{leaves()} }},
	{"a FIN, reading on", func() []step { return []step{shutsWriting(), listens(), takesWhatComes()} }},
}

// endings: a peer may end the connection in any way at any stage, and it is
// nobody else's business.
func endings(s *scene) {
	var all []*crowd
	for _, stage := range stages {
		for _, way := range ways {
			n := s.scale.few
			if stage.link == narrow {
				n = 1 + n/5
			}
			all = append(all, s.herd.crowd("peers with "+way.name+" "+stage.name, n, stage.link, s.dice,
				func(d *dice) []step { return script(stage.come(d), way.end()) }))
		}
	}
	for _, c := range all {
		c.ended("reset it", "left", "taken what came")
	}
}

// halfCloses: who says whole messages and shuts its writing side gets all of
// the echo, fast reader or slow, and then the server's FIN.
func halfCloses(s *scene) {
	var all []*crowd
	for l, name := range []string{near: "near", far: "far", narrow: "narrow"} {
		all = append(all, s.herd.crowd("half-closing peers, "+name, 10*s.scale.few, link(l), s.dice, halfClose))
	}
	for _, c := range all {
		c.ended("heard out")
	}
}

func halfClose(d *dice) []step {
	if d.chance(90) {
		return script(shakes(), []step{says(chatter, 5, d), shutsWriting(), hearsOut()})
	}
	return script(shakes(), []step{goesDeaf(), says(page, 1, d), shutsWriting(), pauses(100 * time.Millisecond), listens(), hearsOut()})
}
