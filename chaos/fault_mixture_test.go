package chaos

import (
	"time"

	"github.com/gobwas/ws"
)

// mixture runs randomly chosen faults at the same time.
func mixture(s *scenario) {
	r := s.rng.fork("mixture")
	acts := s.acts()
	var all []*group
	for end := time.Now().Add(s.scale.mixture); time.Now().Before(end); {
		a := acts[r.intN(len(acts))]
		all = append(all, s.swarm.group(a.name, 1+r.intN(s.scale.few), a.link, r, a.script))
		s.swarm.runFor(time.Duration(r.intN(int(s.scale.duration / 4))))
	}
	for _, peers := range all {
		peers.wantOutcome("closed with 1000", "408", "echoed to the end", "sent a reset", "disconnected", "drained")
	}
}

// act is the script of one group of the mixture.
type act struct {
	name   string
	link   link
	script func(r *rng) []step
}

func (s *scenario) acts() []act {
	wait := func(r *rng) step { return pauses(time.Duration(r.intN(int(s.scale.interval)))) }
	all := []act{
		{"slow handshakes", near, s.slowHandshake},
		{"half frames", near, func(r *rng) []step { return halfFrame(r, wait(r)) }},
		{"half frames, far", far, func(r *rng) []step { return halfFrame(r, wait(r)) }},
		{"frames sent byte by byte", near, bytewiseFrame},
		{"late readers", narrow, func(r *rng) []step { return lateReader(r, stopsReading(), wait(r)) }},
		{"slow readers", narrow, func(r *rng) []step { return lateReader(r, readsAt(1, s.scale.interval/10), wait(r)) }},
		{"half-closing peers", far, halfClose},
		{"floods", near, func(r *rng) []step { return flood(r, wait(r)) }},
		{"long messages", near, func(r *rng) []step {
			return script(upgrades(), []step{sendsMessages(hugeMessages, 3, r), getsEcho()}, closes(ws.StatusNormalClosure))
		}},
	}
	for _, stage := range stages {
		for _, way := range ways {
			all = append(all, act{"peers with " + way.name + " " + stage.name, stage.link,
				func(r *rng) []step { return script(stage.script(r), way.end()) }})
		}
	}
	return all
}
