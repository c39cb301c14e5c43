package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// logQueueSize is how many bytes of the log may wait for stderr, some 3,000 lines. As many
	// again may be on their way to it.
	logQueueSize = 512 << 10

	// keptBuffer is how much of that is kept once the log has caught up.
	keptBuffer = 64 << 10

	// lossEvery is how often the writer tries to report lost lines while there is nothing else to
	// write.
	lossEvery = 2 * time.Second

	// retryPause is the pause before a write that EAGAIN has refused is tried again.
	retryPause = 20 * time.Millisecond

	// flushTimeout is how long the server waits at its end for the log to be written.
	flushTimeout = time.Second

	// hastyFlush is flushTimeout after a second signal.
	hastyFlush = 100 * time.Millisecond
)

// logQueue is the only way to stderr. Write puts lines into a bounded queue and returns at once; one
// goroutine writes them. A line that finds the queue full, or that stderr refuses, is dropped and
// counted: no other part of the server waits for stderr, or ends because of it. The Go runtime does:
// it reports a panic or SIGQUIT itself.
type logQueue struct {
	log *slog.Logger // writes to the queue

	lost atomic.Uint64 // lines dropped

	mu     sync.Mutex
	queue  []byte // whole lines
	closed bool

	wake    chan struct{} // has a token when there is something in the queue, or closed is set
	written chan struct{} // closed when the writer has ended

	// The writer's own.
	out      io.Writer
	direct   slog.Handler // writes to out, around the queue
	reported uint64       // of lost
	torn     bool         // the last byte written is in the middle of a line
}

// newLogQueue starts a queue for out. Its log, and its report of lost lines, have the given format.
func newLogQueue(out io.Writer, format func(io.Writer) slog.Handler) *logQueue {
	q := &logQueue{out: out, wake: make(chan struct{}, 1), written: make(chan struct{})}
	q.log = slog.New(format(q))
	q.direct = format(writerFunc(q.writeLine))
	go q.writeAll()
	return q
}

// Write queues whole lines, or drops them. It never fails: no caller could report it.
func (q *logQueue) Write(lines []byte) (int, error) {
	q.mu.Lock()
	fits := !q.closed && len(q.queue)+len(lines) <= logQueueSize
	if fits {
		q.queue = append(q.queue, lines...)
	}
	q.mu.Unlock()
	if !fits {
		q.lost.Add(uint64(bytes.Count(lines, []byte("\n"))))
		return len(lines), nil
	}
	q.wakeUp()
	return len(lines), nil
}

func (q *logQueue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close waits until what is queued has been written, for at most a time. Later lines are dropped.
func (q *logQueue) close(timeout time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wakeUp()
	select {
	case <-q.written:
	case <-time.After(timeout):
	}
}

// writeAll is the writer. It writes line by line: a line of up to 4 KiB then stays whole in a pipe
// that other processes write to as well.
func (q *logQueue) writeAll() {
	defer close(q.written)
	var batch []byte
	for {
		if cap(batch) > keptBuffer {
			batch = nil
		}
		q.mu.Lock()
		batch, q.queue = q.queue, batch[:0]
		closed := q.closed
		q.mu.Unlock()
		for line := range bytes.Lines(batch) {
			if _, err := q.writeLine(line); err != nil {
				q.lost.Add(1)
			}
		}
		q.reportLost()
		if closed {
			return
		}
		var again <-chan time.Time
		if q.lost.Load() > q.reported {
			again = time.After(lossEvery)
		}
		select {
		case <-q.wake:
		case <-again:
		}
	}
}

// reportLost writes how many lines were lost since the last such report, if any were. If that
// fails, writeAll calls it again after the next lines, or after lossEvery.
func (q *logQueue) reportLost() {
	lost := q.lost.Load()
	if lost == q.reported {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were lost: stderr was full or broken", 0)
	r.AddAttrs(slog.Uint64("count", lost-q.reported))
	if q.direct.Handle(context.Background(), r) == nil {
		q.reported = lost
	}
}

// writeLine writes a line to out.
func (q *logQueue) writeLine(line []byte) (int, error) {
	if q.torn {
		line = append([]byte("\n"), line...)
	}
	for n := 0; ; {
		m, err := q.out.Write(line[n:])
		if n += m; n > 0 {
			q.torn = line[n-1] != '\n'
		}
		// Another process that shares stderr has made it non-blocking after this one was started.
		if !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		time.Sleep(retryPause)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
