package chaos

import (
	"math"

	"github.com/gobwas/ws"
)

// zeroWindows runs peers that send as much as the server accepts and read nothing, until every
// buffer on the path is full. Then they read, and must get every byte.
func zeroWindows(s *scenario) {
	var g gate
	peers := s.swarm.group("zero windows", s.scale.some/5, narrow, s.rng, func(r *rng) []step { return lateReader(r, stopsReading(), g.wait()) })
	s.swarm.waitAtGate(peers)
	s.swarm.waitBlocked(peers)
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	peers.wantOutcome("closed with 1000")
}

// slowReaders is zeroWindows with peers that read one byte now and then, so the server never
// stops sending entirely.
func slowReaders(s *scenario) {
	var g gate
	before := readsAt(1, s.scale.interval)
	peers := s.swarm.group("slow readers", s.scale.some/5, narrow, s.rng, func(r *rng) []step { return lateReader(r, before, g.wait()) })
	s.swarm.waitAtGate(peers)
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	peers.wantOutcome("closed with 1000")
}

// lateReader returns the script of a peer that reads as the step before sets, and everything once
// the step wait is done.
func lateReader(r *rng, before, wait step) []step {
	return script(
		upgrades(),
		[]step{before, keepsSending(mixedSizes, 0, r), wait, resumesReading(), readsAt(0, 0), stopsSending(), getsEcho()},
		closes(ws.StatusNormalClosure),
	)
}

// neverReading runs peers that never read; they cost the server the content of their buffers until
// -write-timeout disconnects them. Nine in ten send only what fits the kernel's buffers, so the
// server cannot know that the echo was not read. The others send as much as the server accepts.
func neverReading(s *scenario) {
	var g gate
	sendLittle := s.swarm.group("peers that do not read and send little", s.scale.some*9/10, narrow, s.rng, func(r *rng) []step {
		return script(
			upgrades(),
			[]step{stopsReading(), sendsMessages(&traffic{maxSize: 8 << 10, fixed: true}, 1, r), g.wait(), resumesReading(), getsEcho()},
			closes(ws.StatusNormalClosure),
		)
	})
	sendAll := s.swarm.group("peers that do not read and send all they can", s.scale.some/10, narrow, s.rng, func(r *rng) []step {
		return script(upgrades(), []step{stopsReading(), keepsSending(mixedSizes, 0, r), g.wait(), resumesReading(), drains()})
	})
	s.swarm.waitAtGate(sendLittle)
	s.swarm.waitUntil("the server has disconnected the peers that send all they can", func() bool { return s.server.descriptors(math.MaxInt) <= s.idleDescriptors+sendLittle.open })
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	sendLittle.wantOutcome("closed with 1000")
	sendAll.wantOutcome("drained", "connection reset by peer")
}
