package chaos

import (
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// stopped stops the server's process (SIGSTOP) while input queues up in the kernel, and lets it
// continue. Nothing may be lost.
func stopped(s *scenario) {
	var g gate
	peers := s.swarm.group("peers of a stopped server", 10*s.scale.few, near, s.rng, func(r *rng) []step {
		return script(upgrades(), []step{keepsSending(mixedSizes, 8, r), g.wait(), stopsSending(), getsEcho()}, closes(ws.StatusNormalClosure))
	})
	s.swarm.waitAtGate(peers)
	began := time.Now()
	s.server.signal(syscall.SIGSTOP)
	s.swarm.runFor(s.scale.stopTime)
	s.server.signal(syscall.SIGCONT)
	s.stoppedFor = time.Since(began)
	s.swarm.runFor(s.scale.duration)
	s.swarm.openGate(&g)
	peers.wantOutcome("closed with 1000")
}

// terminate sends SIGTERM while all peers send and some have not read for a while. The server must
// echo what had arrived before, then close with 1001, and then exit by itself.
func (s *scenario) terminate(r *row) *probeStats {
	n := s.scale.many / 5
	if s.descriptors > 0 {
		n = min(n, s.descriptors/4)
	}
	var g gate
	sending := s.swarm.group("sending peers", n, near, s.rng, func(r *rng) []step {
		return script(upgrades(), []step{keepsSending(mixedSizes, 8, r), g.wait(), getsGoingAway()})
	})
	incomplete := s.swarm.group("peers with an incomplete request", n/10, near, s.rng, func(r *rng) []step {
		return []step{sends(request[:r.intN(len(request))]), g.wait(), getsRefusal(503, 0)}
	})
	var unread *group
	if s.exact { // elsewhere a slow machine may exceed -write-timeout
		unread = s.swarm.group("peers with unread echoes", min(n/10, 10), narrow, s.rng, func(r *rng) []step {
			return script(upgrades(), []step{stopsReading(), keepsSending(mixedSizes, 0, r), g.wait(), resumesReading(), getsGoingAway()})
		})
		s.swarm.waitAtGate(unread)
		s.swarm.waitBlocked(unread)
	}
	s.swarm.waitAtGate(sending, incomplete)
	s.swarm.runFor(s.scale.duration)
	s.measure(r)
	s.swarm.markArrived()
	began := time.Now()
	s.server.signal(syscall.SIGTERM)
	s.swarm.openGate(&g)
	sending.wantOutcome("closed with 1001")
	incomplete.wantOutcome("503", "408") // whichever came first
	if unread != nil {
		unread.wantOutcome("closed with 1001")
	}
	stats := s.probes.waitClosed()
	if stats.GoingAway != probeCount {
		s.t.Errorf("%d probes were closed with 1001, want %d", stats.GoingAway, probeCount)
	}
	if first := stats.Unanswered; !first.IsZero() && first.Before(began) {
		s.t.Errorf("a probe was closed with 1001 without the echo of a message that it had sent %v before the signal", began.Sub(first))
	}
	if took := time.Since(began); took > drainTimeout {
		s.t.Errorf("the server took %v to close its connections, want at most %v", took, drainTimeout)
	}
	return stats
}
