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

// within is a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A worker that sleeps because there is nothing to do is woken by the question.
func TestWorkersTurn(t *testing.T) {
	h := opens(t, workers(3)).starts()
	p := h.connects()
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Error(err)
	}
	p.sends(masked(text("and none is in the way")))
	p.wantsEcho("of a message", text("and none is in the way"))
}

// One worker that hangs is named; the others are not.
func TestWorkerHangs(t *testing.T) {
	h := opens(t, workers(2)).starts()
	free := make(chan struct{})
	h.workers[1].mail.post(message{do: func(*worker) { <-free }})
	err := h.Healthy(within(t, 50*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "worker 1") || strings.Contains(err.Error(), "worker 0") {
		t.Errorf("worker 1 hangs, and the answer is: %v", err)
	}
	close(free)
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("it goes on, and the answer is: %v", err)
	}
}

func TestWorkersTurnWhileDrainingAndAreDoneAfterwards(t *testing.T) {
	h := opens(t, workers(2)).starts()
	p := h.connects()
	drained := make(chan struct{})
	go func() { h.Shutdown(soon); close(drained) }()
	p.wantsClose("goodbye", 1001)
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("while draining: %v", err)
	}
	p.sends(masked(closing(1001)))
	p.wantsFIN("the end")
	p.closes()
	<-drained
	if err := h.Healthy(within(t, soon)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A worker that dies with messages that it has not read leaves nobody waiting: not those
// who ask it, not Shutdown, and not the peer of a connection that was on its way to it.
func TestWorkerDies(t *testing.T) {
	h := opens(t, workers(2), func(cfg *Config) { cfg.MaxConnsPerIP = 10 }).starts()
	dies := h.workers[0] // which has the next arrival, for others have no fewer
	reading := make(chan bool)
	dies.mail.post(message{do: func(w *worker) {
		close(reading)
		h.until("everybody has written to it", func() bool {
			w.mail.mu.Lock()
			defer w.mail.mu.Unlock()
			return len(w.mail.messages) == 5
		})
		breaks(t, w.conns.poller)
	}})
	<-reading
	arrives := h.adopts(echo.Upgraded(), nil)
	stats, turning, down := make(chan *Snapshot, 1), make(chan error, 1), make(chan bool)
	go func() { s, _ := h.Snapshot(within(t, soon)); stats <- s }()
	go func() { turning <- h.Healthy(within(t, soon)) }()
	go func() { h.Shutdown(soon); close(down) }()

	wantsSoon(t, "Snapshot", stats)
	if err := wantsSoon(t, "Healthy", turning); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "worker 0 has ended") {
		t.Errorf("worker 0 has died, and the answer is: %v", err)
	}
	wantsSoon(t, "Shutdown", down)
	if err := wantsSoon(t, "Failed", h.Failed()); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the pool has failed: %v", err)
	}
	arrives.wantsFIN("nobody has taken it")
	h.wantsEnded(map[Reason]uint64{InternalFailed: 1})
}

// breaks puts another file in the place of a poller's epoll.
func breaks(t *testing.T, p *netpoll.Poller) {
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

// wantsSoon waits for something that must not take long.
func wantsSoon[T any](t *testing.T, what string, c <-chan T) (x T) {
	t.Helper()
	select {
	case x = <-c:
	case <-time.After(soon):
		t.Fatalf("%s does not come", what)
	}
	return x
}
