package chaos

import (
	"fmt"
	"time"
)

// mixture: some of everything at once, as the dice have it.
func mixture(s *scene) {
	d := s.dice.fork("mixture")
	var all []*crowd
	for end := time.Now().Add(s.scale.wild); time.Now().Before(end); {
		stage, way := stages[d.below(len(stages))], ways[d.below(len(ways))]
		n := 1 + d.below(s.scale.few)
		c := s.herd.crowd(fmt.Sprintf("peers with %s %s", way.name, stage.name), n, link(d.below(3)), d.fork(fmt.Sprint(len(all))),
			func(_ int, d *dice) []step { return script(stage.come(d), way.end()) })
		all = append(all, c)
		s.herd.lasts(time.Duration(d.below(int(s.scale.spell / 4))))
	}
	for _, c := range all {
		c.ended("reset it", "left", "taken what came")
	}
}
