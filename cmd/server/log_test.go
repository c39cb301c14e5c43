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

// stderr is an output whose moods a test sets: it takes lines, refuses them, or blocks.
type stderr struct {
	mu      sync.Mutex
	turned  *sync.Cond
	blocked bool
	err     error // of every write, unless it is nil
	room    int   // bytes taken before err
	text    bytes.Buffer
}

func newStderr() *stderr {
	s := &stderr{}
	s.turned = sync.NewCond(&s.mu)
	return s
}

func (s *stderr) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.blocked {
		s.turned.Wait()
	}
	if s.err != nil {
		n := min(len(b), s.room)
		s.room -= n
		s.text.Write(b[:n])
		return n, s.err
	}
	return s.text.Write(b)
}

// is sets its mood.
func (s *stderr) is(blocked bool, err error, room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked, s.err, s.room = blocked, err, room
	s.turned.Broadcast()
}

// works has it take lines again.
func (s *stderr) works() { s.is(false, nil, 0) }

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// lossReport is the count in the report of lost lines.
var lossReport = regexp.MustCompile(`"log lines were lost[^"]*","count":(\d+)`)

func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestLogIsWritten(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	const many = 1000
	for i := range many {
		q.log.Info("line", "i", i)
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // the writer takes some, and reports nothing lost
		}
	}
	q.close(soon)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != many || q.lost.Load() != 0 {
		t.Fatalf("%d lines, %d lost; want %d and a report of nothing", len(lines), q.lost.Load(), many)
	}
	for i, line := range lines {
		if !strings.Contains(line, fmt.Sprintf(`"i":%d}`, i)) {
			t.Fatalf("line %d is %s", i, line)
		}
	}
}

// While a write blocks, lines beyond the limit are dropped and counted; the log reports them when the
// write returns.
func TestLogBlocks(t *testing.T) {
	out := newStderr()
	out.is(true, nil, 0)
	q := newLogQueue(out, asJSON)
	line := []byte(strings.Repeat("x", 99) + "\n")
	const many = 4 * logQueueSize / 100
	for range many {
		if n, err := q.Write(line); n != len(line) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	lost := q.lost.Load()
	if least := uint64(many - 2*logQueueSize/100); lost < least {
		t.Errorf("%d lines were dropped, want at least %d", lost, least)
	}
	out.works()
	eventually(t, "the loss is reported", func() bool { return lossReport.MatchString(out.String()) })
	q.Write([]byte("at last\n"))
	q.close(soon)
	text := out.String()
	if got := strings.Count(text, string(line)); uint64(got) != many-lost {
		t.Errorf("%d lines are written, %d of %d were dropped", got, lost, many)
	}
	if count := lossReport.FindStringSubmatch(text); count[1] != fmt.Sprint(lost) {
		t.Errorf("%s lines are reported lost, want %d", count[1], lost)
	}
	if !strings.HasSuffix(text, "\nat last\n") {
		t.Errorf("the log ends with %q", text[max(0, len(text)-300):])
	}
}

// Lines that fail are counted. The log reports them when it works again, even without another line.
func TestLogFails(t *testing.T) {
	for _, cause := range []error{syscall.EPIPE, syscall.ENOSPC, syscall.EIO, syscall.EFBIG, io.ErrShortWrite} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			out := newStderr()
			out.is(false, cause, 0)
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
				t.Errorf("the log is %s", text)
			}
		})
	}
}

// A disk that fills up in the middle of a line does not spoil the next line.
func TestLogIsTorn(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	out.is(false, syscall.ENOSPC, 20)
	q.log.Info("torn")
	eventually(t, "the line is counted", func() bool { return q.lost.Load() == 1 })
	out.works()
	q.log.Info("whole")
	q.close(soon)
	torn, rest, _ := strings.Cut(out.String(), "\n")
	if len(torn) != 20 {
		t.Errorf("the torn line is %q", torn)
	}
	for line := range strings.Lines(rest) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q is no whole line", line)
		}
	}
	if strings.Count(rest, "\n") != 2 || !strings.Contains(rest, `"whole"`) {
		t.Errorf("the log goes on with %q", rest)
	}
}

// A stderr that another process has made non-blocking is not broken when it is full.
func TestLogWouldBlock(t *testing.T) {
	out := newStderr()
	out.is(false, syscall.EAGAIN, 5)
	q := newLogQueue(out, asJSON)
	q.log.Info("slow")
	eventually(t, "it is full", func() bool { return len(out.String()) == 5 })
	out.works()
	q.close(soon)
	if text := out.String(); !json.Valid([]byte(text)) || q.lost.Load() != 0 {
		t.Errorf("%d lines are lost of %q", q.lost.Load(), text)
	}
}

// The end does not wait for a log that blocks, and what comes after the end is counted.
func TestLogEnds(t *testing.T) {
	out := newStderr()
	out.is(true, nil, 0)
	q := newLogQueue(out, asJSON)
	q.log.Info("never written")
	q.close(time.Millisecond) // returns
	q.log.Info("too late")
	if lost := q.lost.Load(); lost != 1 {
		t.Errorf("%d lines lost, want the one that came too late", lost)
	}
	out.works()
	<-q.written
}

// Nothing of the memory that a burst took is kept.
func TestLogGivesMemoryBack(t *testing.T) {
	out := newStderr()
	q := newLogQueue(out, asJSON)
	out.is(true, nil, 0)
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
		t.Errorf("%d bytes are kept", kept)
	}
}

// The metric counts lost lines, and the log tells of them once it works again.
func TestLostLinesAreCounted(t *testing.T) {
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
		t.Errorf("%q lines are lost at start", n)
	}
	out.is(false, errors.New("away"), 0)
	p := s.dial()
	eventually(t, "one line is lost", func() bool { return lost() == "1" })
	out.works()
	p.Sends(maskedClose)
	p.Wants("\x88\x02\x03\xe9", "a close")
	p.WantsEnd()
	if report := s.wantsLog("log lines were lost: stderr was full or broken"); report["count"] != 1.0 || report["level"] != "WARN" {
		t.Errorf("the report is %v", report)
	}
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}
