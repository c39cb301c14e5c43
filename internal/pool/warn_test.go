package pool

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// logbook is a log that can be read while it is written.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logbook) read() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func (l *logbook) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// The first is said at once, the others together, and nothing is lost.
func TestWarning(t *testing.T) {
	book := &logbook{}
	w := warning{log: book.log(), msg: "trouble", every: 20 * time.Millisecond}
	lines := func() int { return strings.Count(book.read(), "\n") }
	w.note()
	waitFor(t, "the first", func() bool { return lines() == 1 })
	for range 1000 {
		w.note()
	}
	waitFor(t, "the rest", func() bool { return lines() >= 2 })
	waitFor(t, "silence", func() bool { return !w.quiet.Load() })
	w.note()
	waitFor(t, "another first", func() bool { return strings.HasSuffix(book.read(), "count=1\n") && lines() >= 3 })
	w.end()
	w.note()
	w.end()
	sum := 0
	for line := range strings.Lines(book.read()) {
		var n int
		if _, err := sscan(line, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	if n := lines(); sum != 1002 || n > 5 {
		t.Errorf("1002 notes, of which the log tells %d in %d lines:\n%s", sum, n, book.read())
	}
}

// What was noted until the end is said at the end.
func TestWarningAtTheEnd(t *testing.T) {
	book := &logbook{}
	h := opens(t, func(cfg *Config) { cfg.MaxConns = 1; cfg.Log = book.log() }).starts()
	h.connects()
	for range 3 {
		p := h.dials()
		p.sends([]byte(request))
		p.wantsStatus("one too many", 503)
	}
	h.hangUp()
	h.Shutdown(soon)
	sum := 0
	for line := range strings.Lines(book.read()) {
		if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "-max-conns)") {
			t.Errorf("the log has %q", line)
		}
		var n int
		if _, err := sscan(line, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	if sum != 3 {
		t.Errorf("3 were refused, of which the log tells %d:\n%s", sum, book.read())
	}
}

// sscan reads the count at the end of a line.
func sscan(line string, n *int) (int, error) {
	_, count, _ := strings.Cut(line, "count=")
	return fmt.Sscan(count, n)
}

// waitFor waits for what others do by themselves.
func waitFor(t *testing.T, why string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s", why)
		}
	}
}
