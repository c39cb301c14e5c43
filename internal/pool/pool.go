// Package pool is the worker pool: a few event loops that own all connections, read what has
// arrived, let package echo answer it, and send the answer.
//
// # Who owns what
//
// A connection belongs to one worker from its arrival to its end. The worker's goroutine alone
// touches its slot and what it holds. Another goroutine that wants something of a worker posts a
// message to its mailbox, which wakes it. The workers share the table of slots, each element of
// which has one owner at a time; the arena and the connection counts, which have their own
// mutexes; and the listeners.
//
// # Where to find things
//
// From the top down: a file uses those below it, with few exceptions.
//
//   - snapshot.go, list.go, health.go: questions that other goroutines ask
//   - adopt.go: connections from other servers
//   - pool.go: New, Start, Shutdown, Close; which worker a connection goes to
//   - loop.go: the event loop of a worker
//   - housekeeping.go: periodic work
//   - accept.go: from a listener's backlog to a worker
//   - drain.go: a worker's part in a shutdown
//   - turn.go: a connection's turn: read, echo, send
//   - lowmemory.go: a turn when there is no memory to keep anything
//   - unsolicited.go: what the server sends without being asked
//   - backlog.go: sending, and the write backlog
//   - worker.go: what a worker consists of
//   - end.go: the end of a connection
//   - conn.go: the connections of one worker
//   - config.go: Config
//   - events.go: reports of single connections
//   - acceptor.go, reservefd.go: listeners, and what happens when descriptors run out
//   - progress.go: whether a slow peer still takes its output
//   - lifecycle.go: what a connection waits for, for how long, and what happens then
//   - deadline.go: sets of descriptors, and those whose deadline has been reached
//   - census.go, perip.go: connection limits
//   - mailbox.go: messages to a worker
//   - store.go: a worker's buffer, and what connections hold
//   - stats.go: counters
//   - warn.go: rate-limited warnings
//   - reason.go: why connections end
//   - slot.go: what is known of a connection
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

// Pool is a pool of workers.
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

// New makes a pool that accepts from the given listeners, if any. Unless New fails, the pool closes
// them, in Shutdown or in Close.
func New(cfg Config, listeners []netpoll.Listener) (*Pool, error) {
	if bits.OnesCount(uint(cfg.BufferSize)) != 1 || cfg.BufferSize < 2*(echo.Headroom+echo.Tailroom) {
		return nil, fmt.Errorf("buffer size %d is too small or not a power of two", cfg.BufferSize)
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

// open allocates what the pool needs. After an error Close frees it.
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
	// The workers' spare blocks are beyond the budget.
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

// newWorker makes a worker. After an error nothing of it is left.
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

// Failed returns the channel that receives the error of a worker that cannot continue. The other
// workers do, but the process should end.
func (p *Pool) Failed() <-chan error { return p.failed }

// Close frees what the pool owns, after its workers have ended or if they were not started.
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

// Shutdown closes the listeners, lets every connection finish what it is owed, sends it a close
// frame with 1001, and waits until the last peer has answered or timeout is over; then it closes
// the rest. It returns when all workers have ended. A second call waits for that, too.
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
		_, _ = await(context.Background(), w, ignored[i]) // or it has ended
	}
	p.closeListeners()
	p.running.Wait()
	p.warnings.end()
}

// place gives a connection to the worker that has the fewest, so that neither a few long-lived
// ones nor a storm of short ones ends up on one core. Here is the worker that has accepted it, if
// any, which wins a draw because it need not be woken. Place reports whether a worker took it.
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
	// A drain has begun there and is over. Here it has not been heard of yet.
	here.conns.load.Add(1)
	here.admit(a)
	return true
}
