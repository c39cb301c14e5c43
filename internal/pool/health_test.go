package pool

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// within returns a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Healthy wakes workers that sleep, and does not disturb their connections.
func TestHealthyWakesSleepingWorkers(t *testing.T) {
	h := newHarness(t, workers(3)).starts()
	p := h.connects()
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Error(err)
	}
	p.sends(masked(text("hello")))
	p.wantsEcho("after Healthy", text("hello"))
}

// The error names the worker that hangs, and no other.
func TestWorkerHangs(t *testing.T) {
	h := newHarness(t, workers(2)).starts()
	free := make(chan struct{})
	h.workers[1].mail.post(message{do: func(*worker) { <-free }})
	err := h.Healthy(within(t, 50*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "worker 1") || strings.Contains(err.Error(), "worker 0") {
		t.Errorf("got error %v, want one that names worker 1 only", err)
	}
	close(free)
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("got error %v after the worker continued, want nil", err)
	}
}

func TestHealthyDuringAndAfterShutdown(t *testing.T) {
	h := newHarness(t, workers(2)).starts()
	p := h.connects()
	drained := make(chan struct{})
	go func() { h.Shutdown(soon); close(drained) }()
	p.wantsClose("during the drain", 1001)
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("during the drain: got error %v, want nil", err)
	}
	p.sends(masked(closing(1001)))
	p.wantsFIN("after the close reply")
	p.closes()
	<-drained
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("after Shutdown: got error %v, want nil", err)
	}
}

// A worker that fails with unread messages leaves no caller waiting: neither Snapshot and Healthy,
// nor Shutdown, nor the peer of a connection that was on its way to it.
func TestFailedWorkerLeavesNoCallerWaiting(t *testing.T) {
	h := newHarness(t, workers(2), func(cfg *Config) { cfg.MaxConnsPerIP = 10 }).starts()
	failing := h.workers[0] // gets the next arrival, since no other has fewer connections
	reading := make(chan bool)
	failing.mail.post(message{do: func(w *worker) {
		close(reading)
		h.until("all messages are posted", func() bool {
			w.mail.mu.Lock()
			defer w.mail.mu.Unlock()
			return len(w.mail.messages) == 5
		})
		breakPoller(t, w.conns.poller)
	}})
	<-reading
	arrives := h.adopts(echo.Upgraded(), nil)
	stats, healthy, down := make(chan *Snapshot, 1), make(chan error, 1), make(chan bool)
	go func() { s, _ := h.Snapshot(within(t, soon)); stats <- s }()
	go func() { healthy <- h.Healthy(within(t, soon)) }()
	go func() { h.Shutdown(soon); close(down) }()

	wantsSoon(t, "Snapshot", stats)
	if err := wantsSoon(t, "Healthy", healthy); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "worker 0 has ended") {
		t.Errorf("Healthy: got error %v, want one that says that worker 0 has ended", err)
	}
	wantsSoon(t, "Shutdown", down)
	if err := wantsSoon(t, "Failed", h.Failed()); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Failed: got error %v, want EINVAL", err)
	}
	arrives.wantsFIN("no worker has taken the connection")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
}

// breakPoller replaces a poller's epoll descriptor by /dev/null, so that its next wait fails.
func breakPoller(t *testing.T, p *netpoll.Poller) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(null)
	epoll := reflect.ValueOf(p).Elem().FieldByName("epoll").Int()
	if err := unix.Dup3(null, int(epoll), unix.O_CLOEXEC); err != nil {
		t.Error(err)
	}
}

// wantsSoon waits for a value from c, which what describes.
func wantsSoon[T any](t *testing.T, what string, c <-chan T) (x T) {
	t.Helper()
	select {
	case x = <-c:
	case <-time.After(soon):
		t.Fatalf("timed out waiting for %s", what)
	}
	return x
}
