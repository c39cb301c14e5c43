package pool

import "context"

// A Snapshot holds the pool's state and counters at one moment.
type Snapshot struct {
	Counters

	Workers  []int // number of connections of each worker, including those that are only to be refused
	Open     int   // number of connections that count against MaxConns
	MaxConns int
	Draining bool

	Backlogged   int // number of connections with a write backlog
	BacklogBytes int // bytes in all write backlogs

	BudgetUsed  int // bytes held for connections
	BudgetLimit int // maximum of BudgetUsed
}

// Snapshot asks all workers for their counters. Its error is the cause of ctx's end.
func (p *Pool) Snapshot(ctx context.Context) (*Snapshot, error) {
	type part struct {
		Counters
		backlog
	}
	parts, err := askAll(ctx, p.workers, func(w *worker) part { return part{w.conns.counters(), w.conns.store.backlog} })
	if err != nil {
		return nil, err
	}
	spares := len(p.workers) * p.cfg.BufferSize // not part of the budget
	s := &Snapshot{
		Open: p.Open(), MaxConns: p.cfg.MaxConns, Draining: p.Draining(),
		BudgetLimit: p.arena.Size() - spares,
		BudgetUsed:  p.arena.Used() - spares,
	}
	s.init()
	for i, x := range parts {
		s.add(&x.Counters)
		s.Backlogged += x.conns
		s.BacklogBytes += x.bytes
		s.Workers = append(s.Workers, int(p.workers[i].conns.load.Load()))
	}
	p.others.addTo(&s.Counters)
	return s, nil
}

// Open returns the number of open connections.
func (p *Pool) Open() int { return int(p.census.open.Load()) }

// Draining reports whether Shutdown has begun.
func (p *Pool) Draining() bool { return p.draining.Load() }

// Full reports whether MaxConns connections are open.
func (p *Pool) Full() bool { return p.Open() >= p.cfg.MaxConns }
