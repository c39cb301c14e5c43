package chaos

import (
	"strings"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// spendBudget exhausts the buffer budget with peers that do not read until the gate opens; then
// they read everything.
func (s *scenario) spendBudget(g *gate) *group {
	peers := s.swarm.group("peers that exhaust the budget", 40, narrow, s.rng, func(r *rng) []step {
		return lateReader(r, stopsReading(), g.wait())
	})
	s.swarm.waitAtGate(peers)
	s.swarm.waitBlocked(peers)
	return peers
}

// unfinishedPings fills the kernel's receive buffer of a connection up to the middle of a control
// frame. The rest of the frame can arrive only once the server has made room for it.
func unfinishedPings(s *scenario) {
	var g gate
	spenders := s.spendBudget(&g)
	s.fillReceiveBuffers()
	s.swarm.openGate(&g)
	spenders.wantOutcome("closed with 1000")
}

// manyHalfPings is unfinishedPings with 2,000 further peers that hold the memory for the start of a
// control frame and never send its end.
func manyHalfPings(s *scenario) {
	const many = 2000
	var g, h gate
	spenders := s.spendBudget(&g)
	halves := s.swarm.group("half pings", many, near, s.rng, func(*rng) []step {
		const ping = "\x89\xfd" // of 125 bytes, of which two are missing
		return script(
			upgrades(),
			[]step{sends(ping + strings.Repeat("x", 127)), h.wait(), shutsDownWriting(), drains()},
		)
	})
	s.swarm.waitAtGate(halves)
	s.fillReceiveBuffers()
	s.swarm.openGate(&h)
	s.swarm.openGate(&g)
	spenders.wantOutcome("closed with 1000")
	halves.wantOutcome("drained")
}

// fillReceiveBuffers stops the server while peers send pings until its kernel accepts no more; then
// the server continues.
func (s *scenario) fillReceiveBuffers() {
	var g gate
	peers := s.swarm.group("pinging peers", s.scale.few, far, s.rng, func(r *rng) []step {
		return script(
			upgrades(),
			[]step{g.wait(), keepsSending(&traffic{maxSize: 1, pinged: 100}, 0, r), pauses(200 * time.Millisecond), stopsSending(), getsEcho()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.swarm.waitAtGate(peers)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.swarm.openGate(&g)
	s.swarm.runFor(100 * time.Millisecond)
	s.server.signal(syscall.SIGCONT)
	s.stoppedFor = time.Since(began)
	peers.wantOutcome("closed with 1000")
}

// unreadHalves exhausts the budget while the server holds most of several long frames. Then the end
// of the frames arrives, and their peers start to read late.
func unreadHalves(s *scenario) {
	var g, h gate
	const size = 200_000
	peers := s.swarm.group("peers with unread halves", 12, far, s.rng, func(r *rng) []step {
		return script(
			upgrades(),
			[]step{stopsReading(), sendsPart(&traffic{maxSize: size, fixed: true}, 1, size-10_000, r), h.wait(), sendsRemainder()},
			[]step{pauses(200 * time.Millisecond), resumesReading(), getsEcho()},
			closes(ws.StatusNormalClosure),
		)
	})
	s.swarm.waitAtGate(peers)
	spenders := s.spendBudget(&g)
	s.swarm.openGate(&h)
	peers.wantOutcome("closed with 1000")
	s.swarm.openGate(&g)
	spenders.wantOutcome("closed with 1000")
}
