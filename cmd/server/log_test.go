package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stderr is a writer whose behaviour a test sets: it accepts lines, fails, or blocks.
type stderr struct {
	mu      sync.Mutex
	changed *sync.Cond // blocked or err
	blocked bool
	err     error // of every write, unless it is nil
	room    int   // bytes accepted before err
	text    bytes.Buffer
}

func newStderr() *stderr {
	s := &stderr{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stderr) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.blocked {
		s.changed.Wait()
	}
	if s.err != nil {
		n := min(len(b), s.room)
		s.room -= n
		s.text.Write(b[:n])
		return n, s.err
	}
	return s.text.Write(b)
}

// set sets what later writes do.
func (s *stderr) set(blocked bool, err error, room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked, s.err, s.room = blocked, err, room
	s.changed.Broadcast()
}

// works makes later writes succeed.
func (s *stderr) works() { s.set(false, nil, 0) }

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// lossReport matches the report of lost lines and its count.
var lossReport = regexp.MustCompile(`"log lines were lost[^"]*","count":(\d+)`)

func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

func TestLogWritesLinesInOrder(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	const many = 1000
	for i := range many {
		q.log.Info("line", "i", i)
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // lets the writer take a batch; it must not report lost lines
		}
	}
	q.close(soon)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != many || q.lost.Load() != 0 {
		t.Fatalf("%d lines written, %d lost; want %d and 0", len(lines), q.lost.Load(), many)
	}
	for i, line := range lines {
		if !strings.Contains(line, fmt.Sprintf(`"i":%d}`, i)) {
			t.Fatalf("line %d is %s, want i=%d", i, line, i)
		}
	}
}

// While a write to stderr blocks, the queue drops and counts further lines. The log reports them
// when the write returns.
func TestLogDropsLinesWhileStderrBlocks(t *testing.T) {
	out := newStderr()
	out.set(true, nil, 0)
	q := newLogQueue(out, asJSON)
	line := []byte(strings.Repeat("x", 99) + "\n")
	const many = 4 * logQueueSize / 100
	for range many {
		if n, err := q.Write(line); n != len(line) || err != nil {
			t.Fatalf("Write returns %d, %v; want %d, nil", n, err, len(line))
		}
	}
	lost := q.lost.Load()
	if least := uint64(many - 2*logQueueSize/100); lost < least {
		t.Errorf("%d lines dropped, want at least %d", lost, least)
	}
	out.works()
	eventually(t, "the loss is reported", func() bool { return lossReport.MatchString(out.String()) })
	q.Write([]byte("at last\n"))
	q.close(soon)
	text := out.String()
	if got := strings.Count(text, string(line)); uint64(got) != many-lost {
		t.Errorf("%d lines written, want %d: %d of %d were dropped", got, many-lost, lost, many)
	}
	if count := lossReport.FindStringSubmatch(text); count[1] != fmt.Sprint(lost) {
		t.Errorf("%s lines reported as lost, want %d", count[1], lost)
	}
	if !strings.HasSuffix(text, "\nat last\n") {
		t.Errorf("the log ends with %q, want the last line", text[max(0, len(text)-300):])
	}
}

// The queue counts lines that stderr refuses. The log reports them when stderr works again, even if
// no other line follows.
func TestLogCountsLinesThatFail(t *testing.T) {
	for _, cause := range []error{syscall.EPIPE, syscall.ENOSPC, syscall.EIO, syscall.EFBIG, io.ErrShortWrite} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			out := newStderr()
			out.set(false, cause, 0)
			q := newLogQueue(out, asJSON)
			for range 3 {
				q.log.Info("lost")
			}
			eventually(t, "the lines are counted", func() bool { return q.lost.Load() == 3 })
			out.works()
			eventually(t, "the loss is reported", func() bool { return lossReport.MatchString(out.String()) })
			q.log.Info("last")
			q.close(soon)
			if text := out.String(); strings.Contains(text, `"lost"`) || len(lossReport.FindAllString(text, -1)) != 1 ||
				!strings.Contains(text, `"count":3}`) || !strings.Contains(text, `"last"`) {
				t.Errorf("the log is %s, want one report of 3 lost lines and the last line", text)
			}
		})
	}
}

// If the disk fills up in the middle of a line, the next line still starts on a new line.
func TestLogEndsTornLineFirst(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	out.set(false, syscall.ENOSPC, 20)
	q.log.Info("torn")
	eventually(t, "the line is counted", func() bool { return q.lost.Load() == 1 })
	out.works()
	q.log.Info("whole")
	q.close(soon)
	torn, rest, _ := strings.Cut(out.String(), "\n")
	if len(torn) != 20 {
		t.Errorf("the torn line is %q, want 20 bytes", torn)
	}
	for line := range strings.Lines(rest) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q is not a complete record", line)
		}
	}
	if strings.Count(rest, "\n") != 2 || !strings.Contains(rest, `"whole"`) {
		t.Errorf("after the torn line: %q, want two lines", rest)
	}
}

// If another process has made stderr non-blocking, a full stderr loses no line.
func TestLogRetriesAfterEAGAIN(t *testing.T) {
	out := newStderr()
	out.set(false, syscall.EAGAIN, 5)
	q := newLogQueue(out, asJSON)
	q.log.Info("slow")
	eventually(t, "stderr is full", func() bool { return len(out.String()) == 5 })
	out.works()
	q.close(soon)
	if text := out.String(); !json.Valid([]byte(text)) || q.lost.Load() != 0 {
		t.Errorf("%d lines lost, log %q; want 0 and a complete record", q.lost.Load(), text)
	}
}

// close does not wait longer than its timeout for a stderr that blocks. Lines after it are counted.
func TestLogCloseTimesOut(t *testing.T) {
	out := newStderr()
	out.set(true, nil, 0)
	q := newLogQueue(out, asJSON)
	q.log.Info("never written")
	q.close(time.Millisecond) // returns
	q.log.Info("after close")
	if lost := q.lost.Load(); lost != 1 {
		t.Errorf("%d lines lost, want 1: the line after close", lost)
	}
	out.works()
	<-q.written
}

// After a burst the queue keeps no large buffer.
func TestLogReleasesMemoryAfterBurst(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	out.set(true, nil, 0)
	for range 2 * logQueueSize / 1000 {
		q.Write(bytes.Repeat([]byte{'x'}, 1000))
		q.Write([]byte("\n"))
	}
	out.works()
	for range 4 {
		q.log.Info("line")
		eventually(t, "the queue is empty", func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.queue) == 0
		})
	}
	q.close(soon)
	if kept := cap(q.queue); kept > keptBuffer {
		t.Errorf("the queue keeps %d bytes, want at most %d", kept, keptBuffer)
	}
}

// The metric wsecho_log_lines_lost_total counts lost lines, and the log reports them when stderr
// works again.
func TestLostLinesAreInMetricsAndLog(t *testing.T) {
	out := newStderr()
	s := startWith(t, func(w io.Writer) io.Writer {
		return writerFunc(func(b []byte) (int, error) {
			if n, err := out.Write(b); err != nil {
				return n, err
			}
			return w.Write(b)
		})
	}, "-log-connections")
	metric := regexp.MustCompile(`(?m)^wsecho_log_lines_lost_total (\d+)$`)
	lost := func() string {
		if m := metric.FindStringSubmatch(s.wantsStatus("/metrics", http.StatusOK)); m != nil {
			return m[1]
		}
		return ""
	}
	if n := lost(); n != "0" {
		t.Errorf("%q lines lost at start, want 0", n)
	}
	out.set(false, errors.New("failing"), 0)
	p := s.dial()
	eventually(t, "a line is lost", func() bool { n := lost(); return n != "" && n != "0" })
	out.works()
	p.Sends(maskedClose)
	p.Wants("\x88\x02\x03\xe9", "a close")
	p.WantsEnd()
	report := s.wantsLog("log lines were lost: stderr was full or broken")
	if n := lost(); fmt.Sprint(report["count"]) != n || report["level"] != "WARN" {
		t.Errorf("the report is %v, want count %s, as in the metric, and level WARN", report, n)
	}
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}
