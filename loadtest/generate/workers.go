package generate

import "wsecho/loadtest/stats"

// Workers are the event loops of a run. One goroutine calls their methods.
type Workers struct {
	all    []*worker
	failed chan error
	spare  *stats.Counts // empty
}

// NewWorkers makes the workers of a plan. It returns an error if the process may have no more
// descriptors. Close has to be called in the end.
func NewWorkers(p *Plan) (*Workers, error) {
	ws := &Workers{failed: make(chan error, p.Workers), spare: stats.NewCounts()}
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

// Close closes what the workers have left open. They have finished, or are not waited for because
// the process is about to exit. With -leave this closes all connections, and may take long.
func (ws *Workers) Close() {
	for _, w := range ws.all {
		w.close()
	}
}

// Run has the workers open the connections. It returns at once.
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

// Settled returns, for each worker, a channel that is closed when each of its connections has been
// opened or has failed to. In mode Connect that has no meaning.
func (ws *Workers) Settled() (all []<-chan struct{}) {
	for _, w := range ws.all {
		all = append(all, w.conns.openings.settled)
	}
	return all
}

// Start begins the sending at a time of the plan's clock. From and until are the measured time;
// from until on nothing is sent.
func (ws *Workers) Start(at, from, until int64) {
	ws.each(func(w *worker) { w.start(at, from, until) })
}

// Open returns the number of connections that are open.
func (ws *Workers) Open() (n int) {
	ws.each(func(w *worker) { n += w.conns.open })
	return n
}

// Collect passes what each worker has counted since the last call. Take may read the counts until
// it returns.
func (ws *Workers) Collect(take func(*stats.Counts)) {
	ws.each(func(w *worker) {
		counts := w.exchange(ws.spare)
		take(counts)
		counts.Reset()
		ws.spare = counts
	})
}

// WindUp has the workers close the connections and finish.
func (ws *Workers) WindUp() { ws.each((*worker).windUp) }

// Finished returns, for each worker, a channel that is closed when it has finished.
func (ws *Workers) Finished() (all []<-chan struct{}) {
	for _, w := range ws.all {
		all = append(all, w.mail.finished)
	}
	return all
}

// Last returns what a worker has counted since the last call of Collect. The worker has finished.
func (ws *Workers) Last(worker int) *stats.Counts { return ws.all[worker].conns.counts }

// each has every worker do something on its goroutine, one after the other, and waits until all
// have. A worker that has finished does nothing.
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
