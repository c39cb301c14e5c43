// Package measure runs a load on a [Schedule] and collects the results: the connections' counts,
// the usage of the processes, and a time series of both.
package measure

import (
	"errors"
	"fmt"
	"os"
	"time"

	"wsecho/loadtest/generate"
	"wsecho/loadtest/stats"
)

// A Schedule holds the durations of the parts of a run.
type Schedule struct {
	Warmup, Duration, Interval time.Duration

	PID int // the server's process; 0: unknown
}

// An Outcome holds the results of a run.
type Outcome struct {
	Measured    time.Duration // length of the measured time
	Counts      *stats.Counts
	Series      []Point
	Sampled     time.Duration // time between the two samples of the processes, about Measured
	Server, Own Usage         // during Sampled; RSS is the growth since before the first connection
	ServerRSS   int64         // bytes, at the end of the measured time
	Open        int           // connections at the end of the measured time
	Interrupted bool
	ServerGone  error // why the server's process could not be sampled until the end
}

// ErrInterrupted is returned when a signal ends the run.
var ErrInterrupted = errors.New("interrupted")

// A Run measures one load.
type Run struct {
	plan     *generate.Plan
	schedule Schedule
	workers  *generate.Workers
	signals  <-chan os.Signal
	progress func(Status)

	status  Status
	entered int64 // when the phase of status began

	total   *stats.Counts // of the measured time
	series  series
	sampler sampler
	ticker  *time.Ticker
	until   int64 // when the measured time ends, once that is known; otherwise 0
}

// New prepares a run. A signal ends the run early. Progress is called at the beginning of each phase
// and after each interval; it must not block. New returns an error if the descriptor limit is reached. The caller has to call Close.
func New(p *generate.Plan, s Schedule, signals <-chan os.Signal, progress func(Status)) (*Run, error) {
	workers, err := generate.NewWorkers(p)
	if err != nil {
		return nil, err
	}
	return &Run{plan: p, schedule: s, workers: workers, signals: signals, progress: progress,
		total: stats.NewCounts(), sampler: sampler{pid: s.PID}}, nil
}

// Close closes the descriptors that Do has left open. With -leave this may take long.
func (r *Run) Close() { r.workers.Close() }

// Do runs the plan. After a signal it returns what was measured until then; after a second signal
// it returns ErrInterrupted at once. It also returns an error if the server's process does not
// exist, no connection could be opened, or a worker fails.
func (r *Run) Do() (*Outcome, error) {
	r.ticker = time.NewTicker(r.schedule.Interval)
	defer r.ticker.Stop()
	before, err := r.sampler.exactSample(r.now())
	if err != nil {
		return nil, err
	}
	r.sampler.last = before
	r.workers.Run()
	r.enter(Opening, 0)
	out := &Outcome{Counts: r.total}
	err = r.measure(out, before)
	if errors.Is(err, ErrInterrupted) {
		out.Interrupted, err = true, nil
	}
	if err == nil && !r.series.ended { // interrupted before the measured time was over
		out.Open = r.workers.Open()
		err = r.lastPoint(r.now())
	}
	if drainErr := r.drain(); err == nil {
		err = drainErr
	}
	out.Series = r.series.result()
	out.ServerGone = r.sampler.gone
	return out, err
}

// measure runs the schedule: it connects, warms up and measures.
func (r *Run) measure(out *Outcome, before sample) error {
	if r.plan.Mode != generate.Connect {
		if err := r.connectAll(); err != nil {
			return err
		}
	}
	start := r.now()
	from := start + int64(r.schedule.Warmup)
	until := from + int64(r.schedule.Duration)
	r.series.from, r.until = from, until
	r.workers.Start(start, from, until)
	r.enter(WarmingUp, r.schedule.Warmup)
	if err := r.wait(r.at(from)); err != nil {
		return err
	}
	first, err := r.sampler.sample(r.now())
	if err != nil {
		return err
	}
	r.sampler.last = first
	r.ticker.Reset(r.schedule.Interval)
	r.enter(Measuring, r.schedule.Duration)

	interrupt := r.wait(r.at(until))
	if interrupt != nil && !errors.Is(interrupt, ErrInterrupted) {
		return interrupt
	}
	out.Measured = min(time.Duration(r.now()-from), r.schedule.Duration)
	if err := r.lastPoint(min(r.now(), until)); err != nil {
		return err
	}
	end, err := r.sampler.exactSample(r.now())
	if err != nil {
		return err
	}
	out.Sampled = time.Duration(end.at - first.at)
	out.Server, out.Own = end.server.minus(first.server), end.own.minus(first.own)
	out.Server.RSS = end.server.RSS - before.server.RSS
	out.ServerRSS = end.server.RSS
	out.Open = r.workers.Open()
	return interrupt
}

// connectAll waits until the first opening of every connection has succeeded or failed.
func (r *Run) connectAll() error {
	for _, settled := range r.workers.Settled() {
		if err := r.wait(settled); err != nil {
			return err
		}
	}
	if r.workers.Open() > 0 {
		return nil
	}
	r.collect()
	what := "no connection could be opened"
	if r.total.Handshake.TotalCount() > 0 {
		if r.plan.Reopen {
			return nil // the connections will be reopened
		}
		what = "nothing was measured: all connections have ended"
	}
	for kind, example := range r.total.Examples {
		if example != "" {
			return fmt.Errorf("%s: %w", what, &stats.Fault{Kind: stats.Failure(kind), Detail: example})
		}
	}
	return nil
}

// drain makes the workers close their connections, and waits for them.
func (r *Run) drain() error {
	r.workers.Drain()
	r.enter(Closing, 0)
	for worker, finished := range r.workers.Finished() {
		if err := r.wait(finished); err != nil {
			return err
		}
		r.take(r.workers.Last(worker))
	}
	return nil
}

// wait waits until a channel is closed. Meanwhile it adds points to the series.
func (r *Run) wait(done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-r.ticker.C:
			if err := r.tick(); err != nil {
				return err
			}
		case err := <-r.workers.Failed():
			return err
		case <-r.signals:
			return ErrInterrupted
		}
	}
}

func (r *Run) now() int64 { return r.plan.Clock.Now() }

// at returns a channel that is closed at the given time of the plan's clock.
func (r *Run) at(when int64) <-chan struct{} {
	done := make(chan struct{})
	var check func()
	check = func() {
		if left := when - r.now(); left > 0 { // possible even after the timer, if the process was stopped
			time.AfterFunc(time.Duration(left), check)
			return
		}
		close(done)
	}
	check()
	return done
}

// collect returns the sum of the workers' counts since the last call, and adds it to the total.
func (r *Run) collect() *stats.Counts {
	sum := stats.NewCounts()
	r.workers.Collect(func(counted *stats.Counts) {
		r.take(counted)
		sum.Add(counted)
	})
	return sum
}

// take adds counts to the total: all of them, or those of the whole run if measuring has not begun.
func (r *Run) take(c *stats.Counts) {
	if c.Measured {
		r.total.Add(c)
	} else {
		r.total.AddRunCounts(c)
	}
}

// tick adds a point, unless the measured time is over and lastPoint is about to add one.
func (r *Run) tick() error {
	now := r.now()
	if !r.series.ended && r.until != 0 && now >= r.until {
		return nil
	}
	return r.point(now)
}

// lastPoint adds the point at the end of the measured time, before connections are closed, and ends
// the series.
func (r *Run) lastPoint(at int64) error {
	since := r.sampler.last.at
	if err := r.point(at); err != nil {
		return err
	}
	r.series.end(at, since, r.schedule.Interval)
	return nil
}

// point adds the point of the interval since the last one. The interval ends at the time at, which
// is now or shortly before.
func (r *Run) point(at int64) error {
	now, err := r.sampler.sample(at)
	if err != nil {
		return err
	}
	counted := r.collect()
	p := pointOf(r.sampler.last, now, counted, r.total.FaultCount())
	r.sampler.last = now
	r.series.add(p)
	r.status.Point = p
	r.report()
	return nil
}
