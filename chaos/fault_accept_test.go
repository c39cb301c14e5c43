package chaos

import (
	"math"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// acceptStorm opens connections that are closed or reset at once, and among them some that exchange
// messages.
func acceptStorm(s *scenario) {
	closing := s.swarm.group("closing peers", 2*s.scale.many, near, s.rng, func(r *rng) []step {
		if r.chance(50) {
			return []step{connects(), resets()}
		}
		return []step{connects(), disconnects()}
	})
	echoing := s.swarm.group("echoing peers", s.scale.many/10, near, s.rng, shortTalk)
	closing.wantOutcome("sent a reset", "disconnected")
	if s.descriptors > 0 {
		echoing.wantOutcome("closed with 1000", "503") // the closing peers may still be open
	} else {
		echoing.wantOutcome("closed with 1000")
	}
}

func shortTalk(r *rng) []step {
	return script(upgrades(), []step{sendsMessages(shortMessages, 1, r), getsEcho()}, closes(ws.StatusNormalClosure))
}

// closedInBacklog stops the server while connections arrive and most of them end. When it
// continues, it finds both dead and live connections in the listener's backlog.
func closedInBacklog(s *scenario) {
	const backlog = 2000 // less than the kernel's usual limit of 4096
	var g gate
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	waiting := s.swarm.group("waiting peers in the backlog", min(s.scale.many, backlog)/4, near, s.rng, func(r *rng) []step {
		return script([]step{connects()}, shortTalk(r))
	})
	closing := s.swarm.group("closing peers in the backlog", min(s.scale.many, backlog)*3/4, near, s.rng, func(r *rng) []step {
		begin := connects()
		if r.chance(50) {
			begin = sends(request)
		}
		return script([]step{begin, g.wait()}, ways[r.intN(2)].end())
	})
	s.swarm.waitAtGate(closing)
	s.swarm.openGate(&g)
	s.swarm.waitUntil("the closing peers have ended", closing.done)
	s.server.signal(syscall.SIGCONT)
	s.stoppedFor = time.Since(began)
	waiting.wantOutcome("closed with 1000")
	closing.wantOutcome("sent a reset", "disconnected")
}

// beyondMaxConns opens twice as many connections as there are descriptors. The server serves
// -max-conns of them, refuses the others with 503, and serves new ones once the first have closed.
func beyondMaxConns(s *scenario) { s.overload(2*s.descriptors, s.server.maxConns-probeCount) }

// beyondDescriptors is beyondMaxConns for a process that has no free descriptor.
func beyondDescriptors(s *scenario) {
	s.waitIdle()
	few := s.idleDescriptors + 20
	s.server.allowDescriptors(few)
	s.overload(2*s.descriptors, few-s.server.descriptors(few))
	s.server.allowDescriptors(s.descriptors)
}

// overload opens n connections where there is room for fewer. Each must be served or refused, the
// server must then be idle, and it must serve new connections once the first have closed.
func (s *scenario) overload(n, room int) {
	var g gate
	peers := s.swarm.group("overloading peers", n, near, s.rng, func(r *rng) []step {
		return script(upgrades(), []step{sendsMessages(shortMessages, 1, r), getsEcho(), g.wait()}, closes(ws.StatusNormalClosure))
	})
	s.swarm.waitUntil("every connection is served or refused", peers.atGate)
	served := peers.open
	if served != room {
		s.t.Errorf("%d of %d connections were served, want %d", served, n, room)
	}
	s.wantIdleCPU()
	s.swarm.openGate(&g)
	peers.wantOutcome("closed with 1000", "503", "connection reset by peer", "end of file (close code 0)")
	s.t.Logf("%d overloading peers: %s", n, tally(peers.outcomes))

	s.waitIdle()
	after := s.swarm.group("peers after the overload", served, near, s.rng, shortTalk)
	after.wantOutcome("closed with 1000")
}

// waitIdle waits until the server has closed all connections but the probes'.
func (s *scenario) waitIdle() {
	s.swarm.waitUntil("the server has closed the swarm's connections", func() bool { return s.server.descriptors(math.MaxInt) <= s.idleDescriptors })
}

// wantIdleCPU checks that the server does not spin: serving the probes takes a small part of a CPU.
func (s *scenario) wantIdleCPU() {
	const while = 500 * time.Millisecond
	before := s.server.cpu()
	s.swarm.runFor(while)
	if used := s.server.cpu() - before; used > while/3 && !underRace {
		s.t.Errorf("the server used %v of CPU time in %v of near idleness, want at most %v", used, while, while/3)
	}
}
