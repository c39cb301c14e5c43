package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"
)

// schedule is how long things last.
type schedule struct {
	warmup, duration, interval time.Duration
	pid                        int // the server's; 0: unknown
}

// A point is what an interval of the run has been like.
type point struct {
	at       time.Duration // its end, from the beginning of the measured time
	rate     float64       // replies a second
	p50, p99 time.Duration
	max      time.Duration
	open     int
	faults   uint64  // up to then
	server   float64 // CPUs in use
	own      float64
}

// outcome is what a run has shown.
type outcome struct {
	measured    time.Duration
	stats       *stats
	series      []point
	sampled     time.Duration // the same, but as late as the two looks at the processes were
	server, own usage         // in the time sampled; rss is what it came to beyond what it was before the first connection
	serverRSS   int64         // at the end of the measured time
	open        int           // then
	interrupted bool
	serverGone  error // why the server's process could not be looked at any more
}

// A generator runs workers after a schedule, and gathers what they count.
type generator struct {
	*plan
	schedule
	workers  []*worker
	failed   chan error // of workers
	signals  <-chan os.Signal
	progress func(point)

	spare  *stats
	total  *stats // of the measured time
	series []point
	ticker *time.Ticker
	last   moment
	from   int64 // when the measured time begins, once that is known
	until  int64 // when it is to end, once that is known
	ended  bool  // it is over: points are shown, and not part of the series any more
	gone   error // why the server's process cannot be looked at any more
}

// moment is what is compared between two points.
type moment struct {
	at          int64
	server, own usage
}

var errInterrupted = errors.New("interrupted")

func newGenerator(p *plan, s schedule, signals <-chan os.Signal, progress func(point)) (*generator, error) {
	g := &generator{plan: p, schedule: s, failed: make(chan error, p.workers), signals: signals, progress: progress, spare: newStats(), total: newStats()}
	for id := range p.workers {
		w, err := newWorker(p, id)
		if err != nil {
			g.close()
			return nil, err
		}
		g.workers = append(g.workers, w)
	}
	return g, nil
}

// close closes what run has left open. The workers have finished, or run has returned an error.
func (g *generator) close() {
	for _, w := range g.workers {
		w.close()
	}
}

// run does what the plan says. It returns what was measured until then if a signal comes early, and leaves at once
// at the second.
func (g *generator) run() (*outcome, error) {
	g.ticker = time.NewTicker(g.interval)
	defer g.ticker.Stop()
	before, err := g.exactMoment()
	if err != nil {
		return nil, err
	}
	g.last = before
	for _, w := range g.workers {
		go func() {
			w.run()
			if w.err != nil {
				g.failed <- w.err
			}
		}()
	}
	out := &outcome{stats: g.total}
	err = g.measure(out, before)
	if errors.Is(err, errInterrupted) {
		out.interrupted, err = true, nil
	}
	if err == nil && !g.ended { // it was interrupted before the measured time was over
		out.open = g.openNow()
		err = g.lastPoint(g.clock())
	}
	if windUpErr := g.windUp(); err == nil {
		err = windUpErr
	}
	for i := range g.series {
		g.series[i].at -= time.Duration(g.from)
	}
	out.series = g.series
	out.serverGone = g.gone
	return out, err
}

// measure goes through the schedule: connect, warm up, measure.
func (g *generator) measure(out *outcome, before moment) error {
	if g.mode != modeConnect {
		if err := g.connectAll(); err != nil {
			return err
		}
	}
	start := g.clock()
	g.from = start + int64(g.warmup)
	g.until = g.from + int64(g.duration)
	until := g.until
	g.each(func(w *worker) {
		w.until = until
		if g.mode != modeIdle { // what counts there is the one echo after opening
			w.from = g.from
		}
		w.start(start)
	})
	if err := g.wait(g.at(g.from)); err != nil {
		return err
	}
	first, err := g.moment()
	if err != nil {
		return err
	}
	g.last = first
	g.ticker.Reset(g.interval)

	interrupt := g.wait(g.at(until))
	if interrupt != nil && !errors.Is(interrupt, errInterrupted) {
		return interrupt
	}
	out.measured = min(time.Duration(g.clock()-g.from), g.duration)
	if err := g.lastPoint(min(g.clock(), until)); err != nil {
		return err
	}
	end, err := g.exactMoment()
	if err != nil {
		return err
	}
	out.sampled = time.Duration(end.at - first.at)
	out.server, out.own = end.server.minus(first.server), end.own.minus(first.own)
	out.server.rss = end.server.rss - before.server.rss
	out.serverRSS = end.server.rss
	out.open = g.openNow()
	return interrupt
}

// connectAll waits until every connection has been opened, or could not be.
func (g *generator) connectAll() error {
	for _, w := range g.workers {
		if err := g.wait(w.settled); err != nil {
			return err
		}
	}
	if g.openNow() == 0 {
		g.collect()
		if g.reopen && g.total.handshake.TotalCount() > 0 {
			return nil // they come again
		}
		what := "no connection could be opened"
		if g.total.handshake.TotalCount() > 0 {
			what = "nothing was measured: no connection is open any more"
		}
		for kind, example := range g.total.examples {
			if example != "" {
				return fmt.Errorf("%s: %w", what, &fault{failure(kind), example})
			}
		}
	}
	return nil
}

// windUp closes what is open and waits for the workers.
func (g *generator) windUp() error {
	g.each((*worker).windUp)
	for _, w := range g.workers {
		if err := g.wait(w.finished); err != nil {
			return err
		}
		g.take(w.stats)
	}
	return nil
}

// wait waits for something, and meanwhile gathers what there is to show.
func (g *generator) wait(done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-g.ticker.C:
			if err := g.point(); err != nil {
				return err
			}
		case err := <-g.failed:
			return err
		case <-g.signals:
			return errInterrupted
		}
	}
}

// at is closed at a time of the plan's clock.
func (g *generator) at(when int64) <-chan struct{} {
	done := make(chan struct{})
	var look func()
	look = func() {
		if left := when - g.clock(); left > 0 { // still, if the process was paused
			time.AfterFunc(time.Duration(left), look)
			return
		}
		close(done)
	}
	look()
	return done
}

// each has every worker do something, and waits until all have.
func (g *generator) each(do func(*worker)) {
	for _, w := range g.workers {
		done := make(chan struct{})
		w.tell(func() { do(w); close(done) })
		select {
		case <-done:
		case <-w.finished:
		}
	}
}

func (g *generator) openNow() (n int) {
	g.each(func(w *worker) { n += w.open })
	return n
}

// collect gathers what the workers have counted since the last time, and returns the sum.
func (g *generator) collect() *stats {
	sum := newStats()
	g.each(func(w *worker) {
		counted := w.stats
		counted.open = w.open
		w.stats = g.spare
		w.stats.measured = counted.measured
		g.take(counted)
		sum.add(counted)
		counted.reset()
		g.spare = counted
	})
	return sum
}

// take adds to the total.
func (g *generator) take(s *stats) {
	if s.measured {
		g.total.add(s)
	} else {
		g.total.addLasting(s)
	}
}

// lastPoint ends the series with what there is at the end of the measured time, before connections
// are closed. A rest of less than half an interval is too short for a rate of its own: then only
// connections and errors are those of the end.
func (g *generator) lastPoint(at int64) error {
	before := len(g.series)
	rest := at - g.last.at
	if err := g.pointAt(at); err != nil {
		return err
	}
	g.ended = true
	if last := before - 1; rest < int64(g.interval)/2 && last >= 0 && (int64(g.series[last].at) > g.from) == (at > g.from) {
		g.series[last].open, g.series[last].faults = g.series[before].open, g.series[before].faults
		g.series = g.series[:before]
	}
	return nil
}

// point notes a point, unless it is so late that it is the last one.
func (g *generator) point() error {
	now := g.clock()
	if !g.ended && g.until != 0 && now >= g.until {
		return nil
	}
	return g.pointAt(now)
}

// pointAt notes what the time since the last point has been like. The time is now, or just past.
func (g *generator) pointAt(at int64) error {
	now, err := g.moment()
	if err != nil {
		return err
	}
	now.at = at
	s := g.collect()
	lasted := max(float64(now.at-g.last.at), 1) / 1e9
	p := point{
		at:     time.Duration(now.at),
		rate:   float64(s.messages) / lasted,
		open:   s.open,
		faults: g.total.faultCount(),
		server: now.server.minus(g.last.server).cpu().Seconds() / lasted,
		own:    now.own.minus(g.last.own).cpu().Seconds() / lasted,
	}
	if s.latency.TotalCount() > 0 { // an empty histogram has a highest value nevertheless
		p.p50 = time.Duration(s.latency.ValueAtPercentile(50))
		p.p99 = time.Duration(s.latency.ValueAtPercentile(99))
		p.max = time.Duration(s.latency.Max())
	}
	g.last = now
	if !g.ended {
		g.series = append(g.series, p)
	}
	g.progress(p)
	return nil
}

// moment looks at the processes. That the server's is there is a condition only for the first time:
// when it has ended, what was measured is still reported.
func (g *generator) moment() (m moment, err error) {
	m.at, m.own = g.clock(), ownUsage()
	if g.pid == 0 {
		return m, nil
	}
	if g.gone == nil {
		m.server, err = usageOf(g.pid)
	}
	switch {
	case g.gone == nil && err == nil:
	case g.last.at == 0:
		return m, fmt.Errorf("-pid %d: %w", g.pid, err)
	default:
		g.gone = cmp.Or(g.gone, err)
		m.server = g.last.server
	}
	return m, nil
}

// exactMoment takes longer about the resident memory.
func (g *generator) exactMoment() (moment, error) {
	m, err := g.moment()
	if err == nil && g.pid != 0 {
		m.server.rss = exactRSS(g.pid, m.server.rss)
	}
	return m, err
}
