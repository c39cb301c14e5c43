package generate

import "wsecho/loadtest/stats"

// Workers are the event loops of a run. Only one goroutine may call their methods.
type Workers struct {
	all    []*worker
	failed chan error
	empty  *stats.Counts // replaces the counts of the next worker in Collect
}

// NewWorkers returns the workers of a plan. It returns an error if the descriptor limit is reached.
// The caller has to call Close.
func NewWorkers(p *Plan) (*Workers, error) {
	ws := &Workers{failed: make(chan error, p.Workers), empty: stats.NewCounts()}
	for number := range p.Workers {
		w, err := newWorker(p, number)
		if err != nil {
			ws.Close()
			return nil, err
		}
		ws.all = append(ws.all, w)
	}
	return ws, nil
}

// Close closes the workers' descriptors. The workers have finished, or the process is about to
// exit. With -leave, Close closes all connections, which may take long.
func (ws *Workers) Close() {
	for _, w := range ws.all {
		w.close()
	}
}

// Run starts the workers, which open the connections. It does not wait for them.
func (ws *Workers) Run() {
	for _, w := range ws.all {
		go func() {
			w.run()
			if w.err != nil {
				ws.failed <- w.err
			}
		}()
	}
}

// Failed returns a channel that receives the error of a worker that has failed.
func (ws *Workers) Failed() <-chan error { return ws.failed }

// Settled returns, for each worker, a channel that is closed when the first opening of each of its
// connections has succeeded or failed. It has no meaning in mode Connect.
func (ws *Workers) Settled() (all []<-chan struct{}) {
	for _, w := range ws.all {
		all = append(all, w.conns.openings.settled)
	}
	return all
}

// Start begins sending at begin. The measured time begins at from. It ends at until, and sending
// with it. All are times of the plan's clock.
func (ws *Workers) Start(begin, from, until int64) {
	ws.each(func(w *worker) { w.start(begin, from, until) })
}

// Open returns the number of connections that are open.
func (ws *Workers) Open() (n int) {
	ws.each(func(w *worker) { n += w.conns.open })
	return n
}

// Collect passes to take the counts of each worker since the last call. Take must not use them
// after it returns.
func (ws *Workers) Collect(take func(*stats.Counts)) {
	ws.each(func(w *worker) {
		counts := w.exchange(ws.empty)
		take(counts)
		counts.Reset()
		ws.empty = counts
	})
}

// Drain makes the workers close their connections and finish.
func (ws *Workers) Drain() { ws.each((*worker).drain) }

// Finished returns, for each worker, a channel that is closed when it has finished.
func (ws *Workers) Finished() (all []<-chan struct{}) {
	for _, w := range ws.all {
		all = append(all, w.mail.finished)
	}
	return all
}

// Last returns the counts of a finished worker since the last call of Collect.
func (ws *Workers) Last(worker int) *stats.Counts { return ws.all[worker].conns.counts }

// each runs a function on the goroutine of every worker, one after the other, and waits for it.
// Workers that have finished are skipped.
func (ws *Workers) each(do func(*worker)) {
	for _, w := range ws.all {
		done := make(chan struct{})
		w.mail.post(func() { do(w); close(done) })
		select {
		case <-done:
		case <-w.mail.finished:
		}
	}
}
