package pool

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// warnEvery is how often the same warning is given.
const warnEvery = 10 * time.Second

// warnings are what the log says of connections that are turned away, and of scarcity.
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
	w.full.what = "connections refused: as many are open as may be (-max-conns)"
	w.perIP.what = "connections refused: too many from one address (-max-conns-per-ip)"
	w.exhausted.what = "descriptors have run out: connections are refused"
	w.accept.what = "connections could not be accepted"
	w.budget.what = "the buffer budget is spent: frames are cut and peers wait (-buffer-budget)"
}

func (w *warnings) all() []*warning {
	return []*warning{&w.full, &w.perIP, &w.exhausted, &w.accept, &w.budget}
}

// end gives the warnings that are still due, and no more.
func (w *warnings) end() {
	for _, x := range w.all() {
		x.end()
	}
}

// A warning is given when it is noted first, and then no more often than every so long, with how often it was
// noted meanwhile. Noting it costs a worker an atomic operation or two; others write the log.
type warning struct {
	log   *slog.Logger
	what  string
	every time.Duration

	quiet atomic.Bool   // a report is due, which will tell of what is noted until then
	noted atomic.Uint64 // since the last report
	err   atomic.Value  // the last error that was noted, if any: a syscall.Errno

	mu   sync.Mutex // protects over, and that a report is whole
	over bool
}

func (w *warning) note() {
	w.noted.Add(1)
	if !w.quiet.Load() && w.quiet.CompareAndSwap(false, true) {
		time.AfterFunc(0, w.report)
	}
}

// noteError is note with an errno, which the report names.
func (w *warning) noteError(err error) {
	w.err.Store(err)
	w.note()
}

// report tells what was noted since the last one, and has the next one come; if there was nothing, the next note does.
func (w *warning) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.tell() {
		time.AfterFunc(w.every, w.report)
		return
	}
	w.quiet.Store(false)
	if w.noted.Load() > 0 && w.quiet.CompareAndSwap(false, true) { // noted between the two lines above
		time.AfterFunc(w.every, w.report)
	}
}

func (w *warning) tell() bool {
	n := w.noted.Swap(0)
	if n > 0 {
		attrs := []any{"count", n}
		if err := w.err.Load(); err != nil {
			attrs = append(attrs, "err", err)
		}
		w.log.Warn(w.what, attrs...)
	}
	return n > 0
}

func (w *warning) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.over = true
		w.tell()
	}
}
