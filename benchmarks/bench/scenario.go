package main

import (
	"iter"
	"slices"
	"time"
)

// scenario is a load that all servers get alike.
type scenario struct {
	name  string
	title string
	kind  kind
	args  []string // wsload's, beyond those that all have
}

// kind is what a scenario measures.
type kind int

const (
	kindEcho    kind = iota // messages
	kindIdle                // memory of connections that are open and silent
	kindConnect             // connections that come and go
)

const idleConnections = "15000"

// Messages are text in all of them: it is what most applications send, and a server that validates it has to.
var scenarios = []scenario{
	{"small", "100 connections, 128 B", kindEcho, []string{"-connections", "100", "-payload", "128"}},
	{"classic", "1,000 connections, 1 KiB", kindEcho, []string{"-connections", "1000", "-payload", "1KiB"}},
	{"many", "10,000 connections, 1 KiB", kindEcho, []string{"-connections", "10000", "-payload", "1KiB"}},
	{"pipelined", "100 connections, 128 B, 16 in flight on each", kindEcho, []string{"-connections", "100", "-payload", "128", "-inflight", "16"}},
	{"large", "50 connections, 64 KiB", kindEcho, []string{"-connections", "50", "-payload", "64KiB"}},
	{"huge", "10 connections, 1 MiB", kindEcho, []string{"-connections", "10", "-payload", "1MiB"}},
	// From several addresses, so that ports do not run out.
	{"idle", "15,000 connections that have each echoed once", kindIdle, []string{"-mode", "idle", "-connections", idleConnections, "-source", "8"}},
	{"connect", "100 at a time are opened, echo once, and are closed", kindConnect, []string{"-mode", "connect", "-connections", "100", "-source", "8"}},
}

const (
	warmup   = 500 * time.Millisecond
	idleTime = 500 * time.Millisecond // nothing happens in it
)

// load is wsload's command line for a scenario, without the server.
func (s scenario) load(duration time.Duration) []string {
	if s.kind == kindIdle {
		duration = idleTime
	}
	return append([]string{"-json", "-leave", "-workers", "1", "-type", "text",
		"-duration", duration.String(), "-warmup", warmup.String()}, s.args...)
}

// turn is how long a server is not stopped, when several are measured by turns. After a pause the caches hold nothing of its connections, and TCP
// acknowledges at once what it would have acknowledged with a reply: each connection's first messages cost more. So that they are few, a turn is long; the
// shorter it is, the more alike is the machine to all. In connect all have had their turns within a second, after which gorilla's servers give up sending a close frame.
func (s scenario) turn() time.Duration {
	if s.kind == kindConnect {
		return 60 * time.Millisecond
	}
	return time.Second
}

// groups are the servers that are measured by turns: all of them together, where times are measured.
func (s scenario) groups(servers []server) iter.Seq[[]server] {
	if s.kind == kindIdle {
		return slices.Chunk(servers, 1)
	}
	return slices.Chunk(servers, max(1, len(servers)))
}

// unit is what the rate counts.
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
