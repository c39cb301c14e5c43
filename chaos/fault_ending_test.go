package chaos

import "time"

// stages are the points at which a peer ends its connection.
var stages = []struct {
	name   string
	link   link
	script func(r *rng) []step
}{
	{"before the request", near, func(*rng) []step { return []step{connects()} }},
	{"in the request", near, func(r *rng) []step { return []step{sends(request[:1+r.intN(len(request)-1)])} }},
	{"after the request", near, func(*rng) []step { return []step{sends(request)} }},
	{"after the answer", near, func(*rng) []step { return upgrades() }},
	{"in a header", near, func(r *rng) []step { return script(upgrades(), []step{sendsPart(largeMessages, 1, 1+r.intN(13), r)}) }},
	{"in a frame", near, func(r *rng) []step {
		return script(upgrades(), []step{sendsPart(largeMessages, 1, 20+r.intN(60_000), r)})
	}},
	{"between fragments", near, func(r *rng) []step {
		return script(upgrades(), []step{sendsPart(fragmentedMessages, 1, 20+r.intN(8000), r)})
	}},
	{"in a message that the server streams", near, func(r *rng) []step { return script(upgrades(), []step{sendsPart(hugeMessages, 1, 500_000, r)}) }},
	{"after a message", near, func(r *rng) []step { return script(upgrades(), []step{sendsMessages(mixedSizes, 1, r)}) }},
	{"after its echo", near, func(r *rng) []step { return script(upgrades(), []step{sendsMessages(mixedSizes, 3, r), getsEcho()}) }},
	{"with a backlog", narrow, func(r *rng) []step {
		return script(upgrades(), []step{stopsReading(), keepsSending(largeMessages, 0, r), pauses(50 * time.Millisecond)})
	}},
	{"after a close frame", near, func(*rng) []step { return script(upgrades(), []step{sends(string(closeFrame(1000)))}) }},
	{"after the closing handshake", near, func(*rng) []step {
		return script(upgrades(), []step{sends(string(closeFrame(1000))), func(p *peer) bool { return p.verifier.closed == 1000 }})
	}},
}

// ways are the ways in which a peer ends its connection.
var ways = []struct {
	name string
	end  func() []step
}{
	{"a reset", func() []step { return []step{resets()} }},
	{"a close", func() []step { return []step{disconnects()} }},
	{"a FIN, then reads", func() []step { return []step{shutsDownWriting(), resumesReading(), drains()} }},
}

// endings ends connections in every way at every stage. Other connections are not affected.
func endings(s *scenario) {
	var all []*group
	for _, stage := range stages {
		for _, way := range ways {
			n := s.scale.few
			if stage.link == narrow {
				n = 1 + n/5
			}
			all = append(all, s.swarm.group("peers with "+way.name+" "+stage.name, n, stage.link, s.rng,
				func(r *rng) []step { return script(stage.script(r), way.end()) }))
		}
	}
	for _, peers := range all {
		peers.wantOutcome("sent a reset", "disconnected", "drained")
	}
}

// halfCloses runs peers that send whole messages and shut down their writing side. Fast or slow,
// they get the complete echo and then the server's FIN.
func halfCloses(s *scenario) {
	var all []*group
	for l, name := range []string{near: "near", far: "far", narrow: "narrow"} {
		all = append(all, s.swarm.group("half-closing peers, "+name, 10*s.scale.few, link(l), s.rng, halfClose))
	}
	for _, peers := range all {
		peers.wantOutcome("echoed to the end")
	}
}

func halfClose(r *rng) []step {
	if r.chance(90) {
		return script(upgrades(), []step{sendsMessages(mixedSizes, 5, r), shutsDownWriting(), readsToEOF()})
	}
	return script(upgrades(), []step{stopsReading(), sendsMessages(largeMessages, 1, r), shutsDownWriting(), pauses(100 * time.Millisecond), resumesReading(), readsToEOF()})
}
