// Package pool is the workers: a few event loops that own all connections,
// read what has arrived, let package echo answer it, and send the answer.
//
// # Who owns what
//
// A connection belongs to one worker from Adopt to close. All of its slot, and
// what it holds, is touched by that worker alone, on its one goroutine. Whoever
// else wants something of a worker leaves it a letter and wakes it (mail.go).
// What workers share is the table of slots, each of whose elements has one
// owner; the arena, under its mutex; and a few atomic counts.
//
// # Where to find things
//
//   - accept.go: from the listeners' backlog to a worker; what happens when descriptors run out
//   - adopt.go: from somebody else to a worker
//   - perip.go: how many connections come from where
//   - slot.go: what is known of a connection
//   - turn.go: a connection's turn: read, echo, send
//   - frugal.go: a turn when there is no memory to keep anything
//   - held.go: the write backlog, and unfinished input
//   - end.go: how connections end, and why
//   - deadline.go: timeouts, found by a sweep
//   - progress.go: whether a slow peer still takes its output
//   - drain.go: Shutdown
//   - health.go: whether every worker's loop turns
//   - stats.go, snapshot.go: what is counted, and how things stand
//   - list.go: the connections that are most of something
//   - events.go: a line a connection
//   - warn.go: refusals and overload, said now and then
//   - arena.go: the budget's memory
package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// Config is how a pool is to be. Every field is to be set; a limit or timeout
// of zero is none where that is said.
type Config struct {
	Workers  int // event loops
	MaxConns int // open connections

	MaxConnsPerIP int // from one IPv4 address, or one IPv6 network of 64 bits; 0: no limit

	MaxFDs int // what RLIMIT_NOFILE allows the process: no descriptor is higher

	BufferSize   int // bytes of each worker's buffer, a power of two
	BufferBudget int // bytes that connections may hold, all together

	HandshakeTimeout time.Duration // from accept to the end of the request
	IdleTimeout      time.Duration // of silence from the peer; 0: none
	WriteTimeout     time.Duration // for which a peer may take none of its output: see progress.go
	CloseTimeout     time.Duration // for the peer's close frame after ours
	LingerTimeout    time.Duration // for the peer's FIN after ours

	Echo echo.Config // MaxFrame is set by the pool
	Log  *slog.Logger

	// OnConn is told of every connection that a worker takes, and of its end. The worker
	// waits until it returns. Nil: nobody is told, and nothing is spent on it.
	OnConn func(ConnEvent)
}

// Pool is a pool of workers.
type Pool struct {
	cfg       Config
	listeners []netpoll.Listener
	workers   []*worker
	slots     []slot
	marks     []mark // by descriptor, as slots are: see progress.go
	arena     *arena
	reserve   reserveFD
	perIP     perIP

	clock  func() tick                                     // now, except in tests
	accept func(listener int) (int, netip.AddrPort, error) // netpoll.AcceptFrom, except in tests

	open     atomic.Int64 // connections that count against MaxConns
	draining atomic.Bool
	warnings warnings
	others   otherCounters

	running sync.WaitGroup
	failed  chan error // the first worker that fails says so
}

// New makes a pool that accepts from the given listeners, which may be none. It
// does not close them.
func New(cfg Config, listeners []netpoll.Listener) (*Pool, error) {
	if bits.OnesCount(uint(cfg.BufferSize)) != 1 || cfg.BufferSize < 2*(echo.Headroom+echo.Tailroom) {
		return nil, fmt.Errorf("buffer size %d is no power of two, or too small", cfg.BufferSize)
	}
	cfg.Echo.MaxFrame = cfg.BufferSize - echo.Headroom - echo.Tailroom
	p := &Pool{cfg: cfg, listeners: listeners, clock: now, accept: netpoll.AcceptFrom, failed: make(chan error, cfg.Workers)}

	p.perIP.init(cfg.MaxConnsPerIP)
	p.warnings.init(cfg.Log)
	p.others.count.init()
	var err error
	if p.slots, err = reserve[slot](cfg.MaxFDs); err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	if p.marks, err = reserve[mark](cfg.MaxFDs); err != nil {
		return nil, errors.Join(fmt.Errorf("marks: %w", err), p.Close())
	}
	chunks := cfg.BufferBudget / cfg.BufferSize
	aside := min(chunks/4, max(1, chunks/16))
	// The spare blocks of the workers are beyond the budget.
	if p.arena, err = newArena(chunks+cfg.Workers, aside, cfg.BufferSize); err != nil {
		return nil, errors.Join(fmt.Errorf("buffer budget: %w", err), p.Close())
	}
	if err = p.reserve.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve descriptor: %w", err), p.Close())
	}
	for range cfg.Workers {
		w, err := newWorker(p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("worker: %w", err), p.Close())
		}
		p.workers = append(p.workers, w)
	}
	return p, nil
}

// Start starts the workers.
func (p *Pool) Start() {
	for _, w := range p.workers {
		p.running.Go(func() {
			w.failure = w.run()
			close(w.ended)
			if w.failure != nil {
				p.failed <- w.failure
			}
		})
	}
}

// Failed delivers the error of a worker that could not go on. The others do,
// but the process had better not.
func (p *Pool) Failed() <-chan error { return p.failed }

// Close gives back what the pool has after its workers have ended.
func (p *Pool) Close() error {
	for _, w := range p.workers {
		w.close()
	}
	p.reserve.close()
	if p.arena != nil {
		p.arena.close()
	}
	unreserve(p.marks)
	unreserve(p.slots)
	return nil
}

// countIn counts a connection against the limits, or says which of them is
// reached. What it returns as source goes to countOut.
func (p *Pool) countIn(from netip.Addr) (source uint32, r *echo.Refusal) {
	if p.open.Add(1) > int64(p.cfg.MaxConns) {
		p.open.Add(-1)
		return 0, echo.RefuseFull
	}
	source, ok := p.perIP.countIn(from)
	if !ok {
		p.open.Add(-1)
		return 0, echo.RefusePerIP
	}
	return source, nil
}

func (p *Pool) countOut(source uint32) {
	p.perIP.countOut(source)
	p.open.Add(-1)
}

// place gives a connection to the worker that has the fewest, so that neither
// a few long ones nor a storm of short ones ends up on one core; here is the worker that
// it has come to, if any, which wins a draw because it need not be told.
func (p *Pool) place(here *worker, a arrival) bool {
	least := here
	if least == nil {
		least = p.workers[0]
	}
	n := least.conns.Load()
	for _, w := range p.workers {
		if c := w.conns.Load(); c < n {
			least, n = w, c
		}
	}
	least.conns.Add(1)
	if least == here {
		here.admit(a)
		return true
	}
	if least.post(letter{arrival: a}) {
		return true
	}
	least.conns.Add(-1)
	if here == nil {
		return false
	}
	// A drain has begun there, and had nobody to wait for. Here it has not been heard of yet.
	here.conns.Add(1)
	here.admit(a)
	return true
}

// Open is the number of open connections.
func (p *Pool) Open() int { return int(p.open.Load()) }
