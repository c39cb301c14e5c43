package pool

import "context"

// A Snapshot is how things stand, and what has been counted until now.
type Snapshot struct {
	Counters

	Workers  []int // connections of each worker, with those that are only to be refused
	Open     int   // connections that count against MaxConns
	MaxConns int
	Draining bool

	Backlogged   int // connections with a write backlog
	BacklogBytes int // in all of those

	BudgetUsed  int // bytes held for connections
	BudgetLimit int // bytes that may be
}

// backlog is what a worker's peers have not read, all together.
type backlog struct{ conns, bytes int }

// Snapshot asks the workers, within what ctx allows. A worker that has ended is
// counted with what it has counted until then.
func (p *Pool) Snapshot(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{
		Open: p.Open(), MaxConns: p.cfg.MaxConns, Draining: p.Draining(),
		BudgetLimit: len(p.arena.mem) - len(p.workers)*p.cfg.BufferSize,
		BudgetUsed:  p.arena.inUse() - len(p.workers)*p.cfg.BufferSize,
	}
	s.init()
	type part struct {
		Counters
		backlog
	}
	look := func(w *worker) part { return part{w.counters(), w.backlog} }
	answers := make([]<-chan part, len(p.workers))
	for i, w := range p.workers {
		answers[i] = ask(w, look)
	}
	for i, w := range p.workers {
		var x part
		select {
		case x = <-answers[i]:
		case <-w.ended:
			x = look(w)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		s.add(&x.Counters)
		s.Backlogged += x.conns
		s.BacklogBytes += x.bytes
		s.Workers = append(s.Workers, int(w.conns.Load()))
	}
	p.others.addTo(&s.Counters)
	return s, nil
}

// Draining says whether Shutdown has begun.
func (p *Pool) Draining() bool { return p.draining.Load() }

// Full says whether as many connections are open as may be.
func (p *Pool) Full() bool { return p.open.Load() >= int64(p.cfg.MaxConns) }

// inUse is how many bytes are in blocks that are not free.
func (a *arena) inUse() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// backlogged counts a write backlog that has come to be.
func (w *worker) backlogged(s *slot) {
	s.set(behind)
	w.backlog.conns++
	w.backlog.bytes += len(w.unsent(s))
}

// backlogSent counts what the kernel has taken of one, and whether that was all.
func (w *worker) backlogSent(s *slot, n int) {
	if !s.is(behind) {
		return
	}
	w.backlog.bytes -= n
	if !w.hasUnsent(s) {
		w.backlogGone(s)
	}
}

// backlogGone counts one out.
func (w *worker) backlogGone(s *slot) {
	if !s.is(behind) {
		return
	}
	s.clear(behind)
	w.backlog.conns--
	w.backlog.bytes -= len(w.unsent(s))
}
