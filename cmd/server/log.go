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
	// logQueueSize is the capacity of the queue in bytes, about 3,000 lines. As many bytes again may
	// be in the batch that the writer is writing.
	logQueueSize = 512 << 10

	// keptBuffer is the largest buffer, in bytes, that the queue keeps when it is empty.
	keptBuffer = 64 << 10

	// lossEvery is the interval at which the writer tries to report lost lines while the queue is
	// empty.
	lossEvery = 2 * time.Second

	// retryPause is the pause before the writer retries a write that failed with EAGAIN.
	retryPause = 20 * time.Millisecond

	// flushTimeout limits how long the server waits at exit for the log to be written.
	flushTimeout = time.Second

	// hastyFlush replaces flushTimeout after a second signal.
	hastyFlush = 100 * time.Millisecond
)

// logQueue writes the log to stderr without blocking its callers. Write puts lines into a bounded
// queue and returns at once; one goroutine writes them. The queue drops and counts lines that find
// it full or that stderr refuses, so no other part of the server waits for stderr or fails because
// of it. The exception is the Go runtime, which writes the report of a panic or SIGQUIT directly.
type logQueue struct {
	log *slog.Logger // writes to the queue

	lost atomic.Uint64 // dropped lines

	mu     sync.Mutex
	queue  []byte // whole lines
	closed bool

	wake    chan struct{} // has a token when the queue is not empty or closed is set
	written chan struct{} // closed when the writer ends

	// Owned by the writer.
	out      io.Writer
	direct   slog.Handler // writes to out, bypassing the queue
	reported uint64       // part of lost that the log has reported
	torn     bool         // the last byte written was not the end of a line
}

// newLogQueue returns a queue that writes to out, and starts its writer. The log and the report of
// lost lines use the given format.
func newLogQueue(out io.Writer, format func(io.Writer) slog.Handler) *logQueue {
	q := &logQueue{out: out, wake: make(chan struct{}, 1), written: make(chan struct{})}
	q.log = slog.New(format(q))
	q.direct = format(writerFunc(q.writeLine))
	go q.writeAll()
	return q
}

// Write queues whole lines, or drops them. It never fails, since no caller could report the error.
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

// close waits until the queued lines are written, for at most timeout. Later lines are dropped.
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

// writeAll is the writer. It writes line by line, so that a line of up to 4 KiB (PIPE_BUF) stays
// whole in a pipe that other processes write to as well.
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

// reportLost writes the number of lines lost since the last report, if there are any. If that
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

// writeLine writes a line to out, and first ends a line that an earlier write left incomplete.
func (q *logQueue) writeLine(line []byte) (int, error) {
	if q.torn {
		line = append([]byte("\n"), line...)
	}
	for n := 0; ; {
		m, err := q.out.Write(line[n:])
		if n += m; n > 0 {
			q.torn = line[n-1] != '\n'
		}
		// EAGAIN means that another process that shares stderr has made it non-blocking.
		if !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		time.Sleep(retryPause)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
