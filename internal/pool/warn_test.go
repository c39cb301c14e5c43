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

// A logBuffer holds log lines that can be read while the log is written.
type logBuffer struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logBuffer) read() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func (l *logBuffer) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// The first note is logged at once, later ones together, and each is counted.
func TestWarningIsRateLimited(t *testing.T) {
	logged := &logBuffer{}
	w := warning{log: logged.log(), msg: "trouble", every: 20 * time.Millisecond}
	lines := func() int { return strings.Count(logged.read(), "\n") }
	w.note()
	waitFor(t, "the first line", func() bool { return lines() == 1 })
	for range 1000 {
		w.note()
	}
	waitFor(t, "a line with later notes", func() bool { return lines() >= 2 })
	waitFor(t, "a report without notes", func() bool { return !w.quiet.Load() })
	w.note()
	waitFor(t, "the next first line", func() bool { return strings.HasSuffix(logged.read(), "count=1\n") && lines() >= 3 })
	w.end()
	w.note()
	w.end()
	sum := 0
	for line := range strings.Lines(logged.read()) {
		var n int
		if _, err := sscan(line, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	if n := lines(); sum != 1002 || n > 5 {
		t.Errorf("got %d notes in %d lines, want 1002 in at most 5:\n%s", sum, n, logged.read())
	}
}

func TestWarningIsLoggedAtShutdown(t *testing.T) {
	logged := &logBuffer{}
	h := newHarness(t, func(cfg *Config) { cfg.MaxConns = 1; cfg.Log = logged.log() }).starts()
	h.connects()
	for range 3 {
		p := h.dials()
		p.sends([]byte(request))
		p.wantsStatus("over the limit", 503)
	}
	h.closesPeers()
	h.Shutdown(soon)
	sum := 0
	for line := range strings.Lines(logged.read()) {
		if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "(-max-conns)") {
			t.Errorf("got log line %q, want a warning with -max-conns", line)
		}
		var n int
		if _, err := sscan(line, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	if sum != 3 {
		t.Errorf("got %d logged refusals, want 3:\n%s", sum, logged.read())
	}
}

// sscan parses the count at the end of a log line.
func sscan(line string, n *int) (int, error) {
	_, count, _ := strings.Cut(line, "count=")
	return fmt.Sscan(count, n)
}

// waitFor waits until cond holds, without running the workers.
func waitFor(t *testing.T, why string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for: %s", why)
		}
	}
}
