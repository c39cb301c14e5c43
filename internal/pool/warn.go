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
	w.budget.what = "the buffer budget is spent: frames are cut and peers wait (-buffer-budget)"
}

func (w *warnings) all() []*warning {
	return []*warning{&w.full, &w.perIP, &w.exhausted, &w.budget}
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

	mu   sync.Mutex // protects over, and that a report is whole
	over bool
}

func (w *warning) note() {
	w.noted.Add(1)
	if !w.quiet.Load() && w.quiet.CompareAndSwap(false, true) {
		time.AfterFunc(0, w.report)
	}
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
		w.log.Warn(w.what, "count", n)
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
