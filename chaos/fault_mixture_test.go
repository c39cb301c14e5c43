package chaos

import (
	"time"

	"github.com/gobwas/ws"
)

// mixture: some of everything at once, as the dice have it.
func mixture(s *scene) {
	d := s.dice.fork("mixture")
	acts := s.acts()
	var all []*crowd
	for end := time.Now().Add(s.scale.wild); time.Now().Before(end); {
		a := acts[d.below(len(acts))]
		all = append(all, s.herd.crowd(a.name, 1+d.below(s.scale.few), a.link, d, a.script))
		s.herd.lasts(time.Duration(d.below(int(s.scale.spell / 4))))
	}
	for _, c := range all {
		c.ended("closed with 1000", "408", "heard out", "reset it", "left", "taken what came")
	}
}

// act is what a crowd of a mixture does.
type act struct {
	name   string
	link   link
	script func(d *dice) []step
}

func (s *scene) acts() []act {
	wait := func(d *dice) step { return pauses(time.Duration(d.below(int(s.scale.second)))) }
	all := []act{
		{"slow handshakes", near, s.slowHandshake},
		{"half frames", near, func(d *dice) []step { return halfFrame(d, wait(d)) }},
		{"half frames from afar", far, func(d *dice) []step { return halfFrame(d, wait(d)) }},
		{"dribbled frames", near, dribbledFrame},
		{"late readers", narrow, func(d *dice) []step { return lateReader(d, goesDeaf(), wait(d)) }},
		{"sipping readers", narrow, func(d *dice) []step { return lateReader(d, sips(1, s.scale.second/10), wait(d)) }},
		{"half-closing peers", far, halfClose},
		{"floods", near, func(d *dice) []step { return flood(d, wait(d)) }},
		{"long messages", near, func(d *dice) []step {
			return script(shakes(), []step{says(book, 3, d), hears()}, closes(ws.StatusNormalClosure))
		}},
	}
	for _, stage := range stages {
		for _, way := range ways {
			all = append(all, act{"peers with " + way.name + " " + stage.name, stage.link,
				func(d *dice) []step { return script(stage.come(d), way.end()) }})
		}
	}
	return all
}
