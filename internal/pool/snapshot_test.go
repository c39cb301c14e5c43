package pool

import (
	"context"
	"errors"
	"testing"
	"time"
)

// looksForBacklogs is what worker.backlog counts, the slow way.
func (w *worker) looksForBacklogs() (b backlog) {
	w.conns.mine.each(func(fd int) {
		if n := len(w.conns.store.unsent(&w.conns.slots[fd])); n > 0 {
			b.conns++
			b.bytes += n
		}
	})
	return b
}

// asks asks the workers something from another goroutine, and lets them work until there is an answer.
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
	h := opens(t, workers(2), func(cfg *Config) { cfg.MaxConns = 5; cfg.BufferBudget = 4 << 20 })
	h.connects()
	h.connects()
	q := h.reluctant()
	q.stuffs(masked(messages(500, 3000)...))

	s := asks(h, h.Snapshot)
	if s.Open != 3 || s.MaxConns != 5 || s.Draining || len(s.Workers) != 2 || s.Workers[0]+s.Workers[1] != 3 {
		t.Errorf("3 of 5 connections on 2 workers: %+v", s)
	}
	_, held := q.slot()
	unsent := len(h.workers[0].conns.store.unsent(&h.slots[held]))
	if s.Backlogged != 1 || s.BacklogBytes != unsent || s.BudgetUsed != h.held() || s.BudgetLimit != 4<<20 {
		t.Errorf("one peer does not read: backlogged %d, %d bytes of %d, %d of %d held, %d are",
			s.Backlogged, s.BacklogBytes, unsent, s.BudgetUsed, s.BudgetLimit, h.held())
	}
	if s.Accepted != 3 || s.Upgraded != 3 {
		t.Errorf("%d accepted, %d upgraded", s.Accepted, s.Upgraded)
	}
	q.closes()
	h.until("it has left", func() bool { return h.conns() == 2 })
	if s := asks(h, h.Snapshot); s.Open != 2 || s.Backlogged != 0 || s.BacklogBytes != 0 || s.BudgetUsed != 0 {
		t.Errorf("the backlog is not gone with its peer: %+v", s)
	}
	h.CountHandshake(101)
	h.CountHandshake(403)
	if s := asks(h, h.Snapshot); s.Upgraded != 4 || s.Codes[403] != 1 {
		t.Errorf("what others have answered is not counted: %+v", s)
	}
}

// Nobody waits longer for figures than he wants to.
func TestSnapshotOfHangingWorker(t *testing.T) {
	h := opens(t).starts()
	free := make(chan bool)
	h.workers[0].mail.post(message{do: func(*worker) { <-free }})
	defer close(free)
	if s, err := h.Snapshot(within(t, 10*time.Millisecond)); s != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", s, err)
	}
}

// After the end the figures are those of the end.
func TestSnapshotAfterShutdown(t *testing.T) {
	h := opens(t).starts()
	p := h.connects()
	p.sends(masked(text("one"), closing(1000)))
	p.wantsEcho("of all", text("one"))
	p.wantsClose("of the close", 1000)
	p.closes()
	h.Shutdown(soon)
	s, err := h.Snapshot(within(t, soon))
	if err != nil || !s.Draining || s.Open != 0 || s.Codes[1000] != 1 || s.Echo.Messages[1] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
