package main

import (
	"log/slog"
	"sync/atomic"

	"wsecho/internal/pool"
)

// connLog writes what workers tell of connections. A log that is too slow for it has lines left out, and says how many:
// a worker never waits for the log.
type connLog struct {
	log    *slog.Logger
	events chan pool.ConnEvent
	lost   atomic.Uint64
	done   chan struct{}
}

// connLogBuffer is how many lines may wait.
const connLogBuffer = 4096

func newConnLog(log *slog.Logger) *connLog {
	c := &connLog{log: log, events: make(chan pool.ConnEvent, connLogBuffer), done: make(chan struct{})}
	go c.write()
	return c
}

func (c *connLog) note(e pool.ConnEvent) {
	select {
	case c.events <- e:
	default:
		c.lost.Add(1)
	}
}

// close writes what is still to be written, when nobody notes anything any more. There need not be a log.
func (c *connLog) close() {
	if c == nil {
		return
	}
	close(c.events)
	<-c.done
}

func (c *connLog) write() {
	defer close(c.done)
	for e := range c.events {
		c.line(&e)
		c.confess()
	}
	c.confess()
}

// confess says how many lines were left out.
func (c *connLog) confess() {
	if n := c.lost.Swap(0); n > 0 {
		c.log.Warn("lines about connections were left out: the log is too slow for them", "count", n)
	}
}

func (c *connLog) line(e *pool.ConnEvent) {
	peer := "unix"
	if e.Peer.IsValid() {
		peer = e.Peer.String()
	}
	if !e.Ended {
		c.log.Info("connection opened", "peer", peer, "worker", e.Worker)
		return
	}
	c.log.Info("connection closed", "peer", peer, "worker", e.Worker, "how", e.Reason.String(), "code", e.Code,
		"bytes_in", e.Received, "bytes_out", e.Sent, "duration", e.Duration)
}
