package pool

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// warnEvery is the minimum time between two log lines of the same warning.
const warnEvery = 10 * time.Second

// warnings are the log's warnings of refused connections and of scarce resources.
type warnings struct {
	full      warning
	perIP     warning
	exhausted warning
	accept    warning
	budget    warning
}

func (w *warnings) init(log *slog.Logger) {
	for _, x := range w.all() {
		x.log = log
		x.every = warnEvery
	}
	w.full.msg = "connection limit reached (-max-conns), refusing"
	w.perIP.msg = "connection limit per address reached (-max-conns-per-ip), refusing"
	w.exhausted.msg = "out of descriptors or memory (LimitNOFILE), refusing"
	w.accept.msg = "accept4 failed"
	w.budget.msg = "buffer budget used up (-buffer-budget), fragmenting frames and throttling slow readers"
}

func (w *warnings) all() []*warning {
	return []*warning{&w.full, &w.perIP, &w.exhausted, &w.accept, &w.budget}
}

// end logs what is still due. Later notes are not logged.
func (w *warnings) end() {
	for _, x := range w.all() {
		x.end()
	}
}

// A warning is a rate-limited log message. The first note is logged at once; later ones are logged
// together, at most once per interval, with their count. A note costs a worker one or two atomic
// operations; a timer's goroutine writes the log.
type warning struct {
	log   *slog.Logger
	msg   string
	every time.Duration // minimum time between two reports

	quiet atomic.Bool   // a report is scheduled, which will include all notes until then
	noted atomic.Uint64 // number of notes since the last report
	err   atomic.Value  // the last noted error, if any: a syscall.Errno

	mu   sync.Mutex // protects over; held during a report
	over bool       // end has been called
}

// note counts an occurrence, and schedules a report unless one is scheduled.
func (w *warning) note() {
	w.noted.Add(1)
	if !w.quiet.Load() && w.quiet.CompareAndSwap(false, true) {
		time.AfterFunc(0, w.report)
	}
}

// noteError is like note; the report includes the last error.
func (w *warning) noteError(err error) {
	w.err.Store(err)
	w.note()
}

// report logs the notes since the last report and schedules the next report. If there were none,
// the next note does.
func (w *warning) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.write() {
		time.AfterFunc(w.every, w.report)
		return
	}
	w.quiet.Store(false)
	if w.noted.Load() > 0 && w.quiet.CompareAndSwap(false, true) { // noted between the two lines above
		time.AfterFunc(w.every, w.report)
	}
}

// write logs the notes since the last report, and reports whether there were any.
func (w *warning) write() bool {
	n := w.noted.Swap(0)
	if n > 0 {
		attrs := []any{"count", n}
		if err := w.err.Load(); err != nil {
			attrs = append(attrs, "err", err)
		}
		w.log.Warn(w.msg, attrs...)
	}
	return n > 0
}

// end writes the last report.
func (w *warning) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.over = true
		w.write()
	}
}
