package pool

import (
	"context"
	"errors"
	"testing"
	"time"
)

// recountBacklogs returns what store.backlog should be, by examining every connection.
func (w *worker) recountBacklogs() (b backlog) {
	w.conns.mine.each(func(fd int) {
		if n := len(w.conns.store.unsent(&w.conns.slots[fd])); n > 0 {
			b.conns++
			b.bytes += n
		}
	})
	return b
}

// asks calls question in another goroutine, and runs the workers until it returns.
func asks[T any](h *harness, question func(ctx context.Context) (T, error)) (answer T) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		answer, err = question(ctx)
		done <- err
	}()
	var err error
	h.until("an answer", func() bool {
		select {
		case err = <-done:
			return true
		default:
			return false
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return answer
}

func TestSnapshot(t *testing.T) {
	h := newHarness(t, workers(2), func(cfg *Config) { cfg.MaxConns = 5; cfg.BufferBudget = 4 << 20 })
	h.connects()
	h.connects()
	q := h.connectsWithSmallBuffers()
	q.sendsUntilBlocked(masked(messages(500, 3000)...))

	s := asks(h, h.Snapshot)
	if s.Open != 3 || s.MaxConns != 5 || s.Draining || len(s.Workers) != 2 || s.Workers[0]+s.Workers[1] != 3 {
		t.Errorf("got %+v, want 3 of 5 connections on 2 workers", s)
	}
	_, held := q.slot()
	unsent := len(h.workers[0].conns.store.unsent(&h.slots[held]))
	if s.Backlogged != 1 || s.BacklogBytes != unsent || s.BudgetUsed != h.held() || s.BudgetLimit != 4<<20 {
		t.Errorf("got %d backlogged with %d bytes, want 1 with %d; got %d of %d held, want %d",
			s.Backlogged, s.BacklogBytes, unsent, s.BudgetUsed, s.BudgetLimit, h.held())
	}
	if s.Accepted != 3 || s.Upgraded != 3 {
		t.Errorf("got %d accepted and %d upgraded, want 3 and 3", s.Accepted, s.Upgraded)
	}
	q.closes()
	h.until("the slow reader's connection has ended", func() bool { return h.conns() == 2 })
	if s := asks(h, h.Snapshot); s.Open != 2 || s.Backlogged != 0 || s.BacklogBytes != 0 || s.BudgetUsed != 0 {
		t.Errorf("got %+v, want no backlog after its connection has ended", s)
	}
	h.CountHandshake(101)
	h.CountHandshake(403)
	if s := asks(h, h.Snapshot); s.Upgraded != 4 || s.Codes[403] != 1 {
		t.Errorf("got %+v, want the handshakes of other servers counted", s)
	}
}

func TestSnapshotStopsWhenContextEnds(t *testing.T) {
	h := newHarness(t).starts()
	free := make(chan bool)
	h.workers[0].mail.post(message{do: func(*worker) { <-free }})
	defer close(free)
	if s, err := h.Snapshot(within(t, 10*time.Millisecond)); s != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, error %v; want DeadlineExceeded", s, err)
	}
}

// After Shutdown, Snapshot returns the final counters.
func TestSnapshotAfterShutdown(t *testing.T) {
	h := newHarness(t).starts()
	p := h.connects()
	p.sends(masked(text("one"), closing(1000)))
	p.wantsEcho("echo", text("one"))
	p.wantsClose("close reply", 1000)
	p.closes()
	h.Shutdown(soon)
	s, err := h.Snapshot(within(t, soon))
	if err != nil || !s.Draining || s.Open != 0 || s.Codes[1000] != 1 || s.Echo.Messages[1] != 1 {
		t.Errorf("got %+v, error %v; want the counters of one message and one close", s, err)
	}
}
