// Package measure runs a load after a [Schedule], and gathers what it was like: what the
// connections have counted, what the processes have used, and a time series of both.
package measure

import (
	"errors"
	"fmt"
	"os"
	"time"

	"wsecho/loadtest/generate"
	"wsecho/loadtest/stats"
)

// A Schedule is how long the parts of a run last.
type Schedule struct {
	Warmup, Duration, Interval time.Duration

	PID int // the server's process; 0: unknown
}

// An Outcome is what a run has shown.
type Outcome struct {
	Measured    time.Duration
	Counts      *stats.Counts
	Series      []Point
	Sampled     time.Duration // like Measured, but between the two observations of the processes
	Server, Own Usage         // during Sampled; RSS is the growth since before the first connection
	ServerRSS   int64         // bytes, at the end of the measured time
	Open        int           // connections at the end of the measured time
	Interrupted bool
	ServerGone  error // why the server's process could not be observed until the end
}

// ErrInterrupted means that a signal has come.
var ErrInterrupted = errors.New("interrupted")

// A Run measures one load.
type Run struct {
	plan     *generate.Plan
	schedule Schedule
	workers  *generate.Workers
	signals  <-chan os.Signal
	progress func(Point)

	total  *stats.Counts // of the measured time
	series series
	watch  watch
	ticker *time.Ticker
	until  int64 // when the measured time ends, once that is known; otherwise 0
}

// New prepares a run, which ends early when a signal comes. Each point of the time series is passed
// to progress. New returns an error if the process may have no more descriptors. Close has to be
// called in the end.
func New(p *generate.Plan, s Schedule, signals <-chan os.Signal, progress func(Point)) (*Run, error) {
	workers, err := generate.NewWorkers(p)
	if err != nil {
		return nil, err
	}
	return &Run{plan: p, schedule: s, workers: workers, signals: signals, progress: progress,
		total: stats.NewCounts(), watch: watch{pid: s.PID}}, nil
}

// Close closes what Do has left open. With -leave that may take long.
func (r *Run) Close() { r.workers.Close() }

// Do does what the plan says. After a signal it returns what was measured until then; a second
// signal ends it at once, with ErrInterrupted. It also returns an error if the server's process
// does not exist, no connection could be opened, or a worker fails.
func (r *Run) Do() (*Outcome, error) {
	r.ticker = time.NewTicker(r.schedule.Interval)
	defer r.ticker.Stop()
	before, err := r.watch.exactMoment(r.now())
	if err != nil {
		return nil, err
	}
	r.watch.last = before
	r.workers.Run()
	out := &Outcome{Counts: r.total}
	err = r.measure(out, before)
	if errors.Is(err, ErrInterrupted) {
		out.Interrupted, err = true, nil
	}
	if err == nil && !r.series.ended { // interrupted before the measured time was over
		out.Open = r.workers.Open()
		err = r.lastPoint(r.now())
	}
	if windUpErr := r.windUp(); err == nil {
		err = windUpErr
	}
	out.Series = r.series.result()
	out.ServerGone = r.watch.gone
	return out, err
}

// measure goes through the schedule: connect, warm up, measure.
func (r *Run) measure(out *Outcome, before moment) error {
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
	if err := r.wait(r.at(from)); err != nil {
		return err
	}
	first, err := r.watch.moment(r.now())
	if err != nil {
		return err
	}
	r.watch.last = first
	r.ticker.Reset(r.schedule.Interval)

	interrupt := r.wait(r.at(until))
	if interrupt != nil && !errors.Is(interrupt, ErrInterrupted) {
		return interrupt
	}
	out.Measured = min(time.Duration(r.now()-from), r.schedule.Duration)
	if err := r.lastPoint(min(r.now(), until)); err != nil {
		return err
	}
	end, err := r.watch.exactMoment(r.now())
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

// connectAll waits until every connection has been opened or has failed to.
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
			return nil // they will be opened again
		}
		what = "nothing was measured: no connection is open any more"
	}
	for kind, example := range r.total.Examples {
		if example != "" {
			return fmt.Errorf("%s: %w", what, &stats.Fault{Kind: stats.Failure(kind), Detail: example})
		}
	}
	return nil
}

// windUp closes what is open and waits for the workers.
func (r *Run) windUp() error {
	r.workers.WindUp()
	for worker, finished := range r.workers.Finished() {
		if err := r.wait(finished); err != nil {
			return err
		}
		r.take(r.workers.Last(worker))
	}
	return nil
}

// wait waits until a channel is closed, and adds points meanwhile.
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

// at returns a channel that is closed at a time of the plan's clock.
func (r *Run) at(when int64) <-chan struct{} {
	done := make(chan struct{})
	var look func()
	look = func() {
		if left := when - r.now(); left > 0 { // also after the timer, if the process was stopped
			time.AfterFunc(time.Duration(left), look)
			return
		}
		close(done)
	}
	look()
	return done
}

// collect gathers what the workers have counted since the last time, and returns the sum.
func (r *Run) collect() *stats.Counts {
	sum := stats.NewCounts()
	r.workers.Collect(func(counted *stats.Counts) {
		r.take(counted)
		sum.Add(counted)
	})
	return sum
}

// take adds counts to the total.
func (r *Run) take(c *stats.Counts) {
	if c.Measured {
		r.total.Add(c)
	} else {
		r.total.AddLasting(c)
	}
}

// tick adds a point, unless it is so late that the last one will follow at once.
func (r *Run) tick() error {
	now := r.now()
	if !r.series.ended && r.until != 0 && now >= r.until {
		return nil
	}
	return r.point(now)
}

// lastPoint ends the series with what there is at the end of the measured time, before connections
// are closed.
func (r *Run) lastPoint(at int64) error {
	since := r.watch.last.at
	if err := r.point(at); err != nil {
		return err
	}
	r.series.end(at, since, r.schedule.Interval)
	return nil
}

// point adds what the time since the last point was like. The time at is now, or just past.
func (r *Run) point(at int64) error {
	now, err := r.watch.moment(at)
	if err != nil {
		return err
	}
	counted := r.collect()
	p := pointOf(r.watch.last, now, counted, r.total.FaultCount())
	r.watch.last = now
	r.series.add(p)
	r.progress(p)
	return nil
}
