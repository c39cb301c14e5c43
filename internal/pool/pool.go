// Package pool implements the worker pool: a few event loops that own all connections, read their
// input, have package echo answer it, and send the replies.
//
// # Ownership
//
// A connection belongs to one worker from its arrival to its end. Only that worker's goroutine
// accesses its slot and its held block. Other goroutines post messages to a worker's mailbox, which
// wakes the worker. The workers share the table of slots, in which each slot has one owner at a
// time; the arena and the connection counts, which synchronize themselves; and the listeners.
//
// # Files
//
// A file uses those below it in this list, with few exceptions.
//
//   - snapshot.go, list.go, health.go: questions from other goroutines
//   - adopt.go: connections from other servers
//   - pool.go: New, Start, Shutdown, Close; which worker a connection goes to
//   - loop.go: the event loop of a worker
//   - housekeeping.go: periodic work
//   - accept.go: accepting connections, and refusing them
//   - drain.go: a worker's part in a shutdown
//   - turn.go: a connection's turn: read, echo, send
//   - lowmemory.go: a turn when memory is used up
//   - unsolicited.go: pings, close frames and refusals that no input asks for
//   - backlog.go: sending, and the write backlog
//   - worker.go: the worker type
//   - end.go: the end of a connection
//   - conn.go: the connections of one worker
//   - config.go: Config
//   - events.go: events for Config.OnConn
//   - acceptor.go, reservefd.go: listeners, and what happens when descriptors run out
//   - progress.go: whether a slow reader still makes progress
//   - lifecycle.go: what a connection waits for, for how long, and what happens on timeout
//   - deadline.go: sets of descriptors, and those whose deadline has been reached
//   - census.go, perip.go: connection limits
//   - mailbox.go: messages to a worker
//   - store.go: a worker's buffer, and the memory that connections hold
//   - stats.go: counters
//   - warn.go: rate-limited warnings
//   - reason.go: why connections end
//   - slot.go: the state of a connection
package pool

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsecho/internal/arena"
	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
	"wsecho/internal/offheap"
)

// A Pool is a pool of workers. Its methods may be called by any goroutine.
type Pool struct {
	cfg       Config
	listeners []netpoll.Listener
	workers   []*worker
	slots     []slot
	marks     []mark
	arena     *arena.Arena
	reserve   reserveFD
	census    census
	clock     func() tick                                     // now, except in tests
	accept    func(listener int) (int, netip.AddrPort, error) // netpoll.AcceptFrom, except in tests
	draining  atomic.Bool
	warnings  warnings
	others    otherCounters

	running sync.WaitGroup
	failed  chan error // receives the error of each worker that fails
}

// New returns a pool that accepts connections from the given listeners, if any. The pool owns the
// listeners, and closes them in Shutdown or in Close; after an error they still belong to the
// caller.
func New(cfg Config, listeners []netpoll.Listener) (*Pool, error) {
	if bits.OnesCount(uint(cfg.BufferSize)) != 1 || cfg.BufferSize < 2*(echo.Headroom+echo.Tailroom) {
		return nil, fmt.Errorf("buffer size %d is not a power of two of at least %d bytes", cfg.BufferSize, 2*(echo.Headroom+echo.Tailroom))
	}
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, DefaultCloseTimeout)
	cfg.LingerTimeout = cmp.Or(cfg.LingerTimeout, DefaultLingerTimeout)
	cfg.Echo.MaxFrame = cfg.BufferSize - echo.Headroom - echo.Tailroom
	p := &Pool{cfg: cfg, listeners: listeners, clock: now, accept: netpoll.AcceptFrom, failed: make(chan error, cfg.Workers)}
	p.census.init(cfg.MaxConns, cfg.MaxConnsPerIP)
	p.warnings.init(cfg.Log)
	p.others.count.init()
	if err := p.open(); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// open allocates the tables, the arena and the workers. After an error the caller must call free.
func (p *Pool) open() (err error) {
	cfg := &p.cfg
	if p.slots, err = offheap.Make[slot](cfg.MaxFDs); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	if p.marks, err = offheap.Make[mark](cfg.MaxFDs); err != nil {
		return fmt.Errorf("marks: %w", err)
	}
	chunks := cfg.BufferBudget / cfg.BufferSize
	aside := min(chunks/4, max(1, chunks/16))
	// The workers' spare blocks do not count towards the budget.
	if p.arena, err = arena.New(chunks+cfg.Workers, aside, cfg.BufferSize); err != nil {
		return fmt.Errorf("buffer budget: %w", err)
	}
	if err = p.reserve.open(); err != nil {
		return fmt.Errorf("reserve descriptor: %w", err)
	}
	for range cfg.Workers {
		w, err := p.newWorker()
		if err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		p.workers = append(p.workers, w)
	}
	return nil
}

// newWorker returns a new worker. On error it has released everything.
func (p *Pool) newWorker() (*worker, error) {
	w := &worker{
		clock: func() tick { return p.clock() },
		conns: conns{
			cfg:      &p.cfg,
			index:    len(p.workers),
			slots:    p.slots,
			endpoint: echo.New(p.cfg.Echo),
			store:    newStore(p.arena, p.cfg.BufferSize),
			census:   &p.census,
			warnings: &p.warnings,
			observer: observer{report: p.cfg.OnConn, worker: len(p.workers)},
			progress: progress{marks: p.marks, writeTimeout: ticks(p.cfg.WriteTimeout)},
			now:      p.clock(),
			limits: [numTimeouts]tick{
				timeoutHandshake: ticks(p.cfg.HandshakeTimeout),
				timeoutIdle:      ticks(p.cfg.IdleTimeout),
				timeoutWrite:     ticks(p.cfg.WriteTimeout),
				timeoutClose:     ticks(p.cfg.CloseTimeout),
				timeoutLinger:    ticks(p.cfg.LingerTimeout),
			},
		},
		events: make([]netpoll.Event, eventBatch),
		ended:  make(chan struct{}),
	}
	w.place = func(a arrival) bool { return p.place(w, a) }
	w.conns.count.init()
	if err := w.conns.open(p.cfg.MaxFDs); err != nil {
		w.conns.close()
		return nil, err
	}
	w.mail.poller = w.conns.poller
	w.acceptor = acceptor{
		poller: w.conns.poller, listeners: p.listeners, reserve: &p.reserve, watched: make([]bool, len(p.listeners)),
		accept4: func(listener int) (int, netip.AddrPort, error) { return p.accept(listener) },
	}
	if err := w.acceptor.watch(); err != nil {
		w.conns.close()
		return nil, err
	}
	return w, nil
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

// Failed returns a channel that receives the error of each worker that has failed. The other
// workers continue, but the process should exit.
func (p *Pool) Failed() <-chan error { return p.failed }

// Close frees what the pool owns. The workers must have ended, or never have been started.
func (p *Pool) Close() {
	if !p.draining.Load() {
		p.closeListeners()
	}
	p.free()
}

// free frees everything but the listeners.
func (p *Pool) free() {
	for _, w := range p.workers {
		w.conns.close()
	}
	p.reserve.close()
	if p.arena != nil {
		p.arena.Close()
	}
	offheap.Free(p.marks)
	offheap.Free(p.slots)
}

func (p *Pool) closeListeners() {
	for _, l := range p.listeners {
		l.Close()
	}
}

// Shutdown closes the listeners, answers the input that every connection has already received, and
// sends each a close frame with code 1001. When all peers have answered, or when timeout is over,
// it closes the remaining connections. It returns when all workers have ended, as does every later
// call.
func (p *Pool) Shutdown(timeout time.Duration) {
	if p.draining.Swap(true) {
		p.running.Wait()
		return
	}
	ignored := make([]<-chan struct{}, len(p.workers))
	for i, w := range p.workers {
		ignored[i] = ask(w, func(w *worker) struct{} { w.acceptor.ignore(); return struct{}{} })
		w.mail.post(message{do: func(w *worker) { w.beginDrain(timeout) }})
	}
	for i, w := range p.workers {
		_, _ = waitForAnswer(context.Background(), w, ignored[i]) // or it has ended
	}
	p.closeListeners()
	p.running.Wait()
	p.warnings.end()
}

// place hands a connection to the worker with the fewest connections, so that neither a few
// long-lived connections nor a burst of short ones end up on one core. The argument here is the
// worker that accepted the connection, or nil; it wins a tie because it need not be woken. place
// reports whether a worker took the connection.
func (p *Pool) place(here *worker, a arrival) bool {
	least := here
	if least == nil {
		least = p.workers[0]
	}
	n := least.conns.load.Load()
	for _, w := range p.workers {
		if c := w.conns.load.Load(); c < n {
			least, n = w, c
		}
	}
	least.conns.load.Add(1)
	if least == here {
		here.admit(a)
		return true
	}
	if least.mail.post(message{arrival: a}) {
		return true
	}
	least.conns.load.Add(-1)
	if here == nil {
		return false
	}
	// That worker has already drained and ended. This one has not received the message to drain
	// yet.
	here.conns.load.Add(1)
	here.admit(a)
	return true
}
