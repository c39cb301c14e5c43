package main

import (
	"iter"
	"slices"
	"time"
)

// scenario is a load that is applied to every server.
type scenario struct {
	name  string
	title string
	kind  kind
	args  []string // wsload's, in addition to those of all scenarios
}

// kind tells what a scenario measures.
type kind int

const (
	kindEcho    kind = iota // rate, latency and CPU of messages
	kindIdle                // memory of open, silent connections
	kindConnect             // rate, latency and CPU of opening and closing connections
)

const idleConnections = "15000"

// All scenarios send text messages, since most applications do, and since servers that validate
// UTF-8 must then do so.
var scenarios = []scenario{
	{"small", "100 connections, 128 B", kindEcho, []string{"-connections", "100", "-payload", "128"}},
	{"classic", "1,000 connections, 1 KiB", kindEcho, []string{"-connections", "1000", "-payload", "1KiB"}},
	{"many", "10,000 connections, 1 KiB", kindEcho, []string{"-connections", "10000", "-payload", "1KiB"}},
	{"pipelined", "100 connections, 128 B, 16 in flight on each", kindEcho, []string{"-connections", "100", "-payload", "128", "-inflight", "16"}},
	{"large", "50 connections, 64 KiB", kindEcho, []string{"-connections", "50", "-payload", "64KiB"}},
	{"huge", "10 connections, 1 MiB", kindEcho, []string{"-connections", "10", "-payload", "1MiB"}},
	// These two use several source addresses, since one does not have enough ports.
	{"idle", "15,000 connections that have each echoed one message", kindIdle, []string{"-mode", "idle", "-connections", idleConnections, "-source", "8"}},
	{"connect", "100 at a time, each opened, used for one message and closed", kindConnect, []string{"-mode", "connect", "-connections", "100", "-source", "8"}},
}

const (
	warmup   = 500 * time.Millisecond
	idleTime = 500 * time.Millisecond // measured time of the idle scenario, without messages
)

// load returns wsload's arguments for a scenario, except those that name the server.
func (s scenario) load(duration time.Duration) []string {
	if s.kind == kindIdle {
		duration = idleTime
	}
	return append([]string{"-json", "-leave", "-workers", "1", "-type", "text",
		"-duration", duration.String(), "-warmup", warmup.String()}, s.args...)
}

// turn returns how long a server runs before the next one's turn, when several are measured
// together. Short turns give all servers the same machine speed. Long turns keep the cost of the
// pauses small: after a pause the CPU caches are cold, and TCP acknowledges at once what it would
// have acknowledged with a reply, so each connection's first messages cost more. In connect, all
// servers must have had their turn within 1 s, because gorilla's servers then give up sending a
// close frame.
func (s scenario) turn() time.Duration {
	if s.kind == kindConnect {
		return 60 * time.Millisecond
	}
	return time.Second
}

// groups returns the groups of servers that are measured together, by turns: one group with all
// servers, or one server per group if only memory is measured.
func (s scenario) groups(servers []server) iter.Seq[[]server] {
	if s.kind == kindIdle {
		return slices.Chunk(servers, 1)
	}
	return slices.Chunk(servers, max(1, len(servers)))
}

// unit returns the noun for what the rate counts.
func (s scenario) unit() string {
	if s.kind == kindConnect {
		return "connection"
	}
	return "message"
}

func scenarioNamed(name string) (scenario, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}
