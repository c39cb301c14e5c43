package e2e

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// otherDescriptors is the number of descriptors for everything but connections.
const otherDescriptors = 200

// needDescriptors skips a test that needs more descriptors than this machine's hard limit. Both the
// server and Go's runtime raise their soft limit to it.
func needDescriptors(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < uint64(n+otherDescriptors) {
		unavailable(t, "a limit of %d descriptors per process is not enough for %d connections", limit.Max, n)
	}
}

// parallel is the number of goroutines that serve many connections. One goroutine per connection
// would exceed the limit of the race detector.
const parallel = 64

// forEach calls do for 0 to n-1 in parallel, and returns the first error.
func forEach(n int, do func(i int) error) error {
	var next atomic.Int64
	failures := make(chan error, parallel)
	for range parallel {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					failures <- nil
					return
				}
				if err := do(i); err != nil {
					next.Store(int64(n)) // stops the others
					failures <- fmt.Errorf("connection %d of %d: %w", i, n, err)
					return
				}
			}
		}()
	}
	var first error
	for range parallel {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return first
}

// openMany opens n connections and echoes one message on each.
func openMany(t *testing.T, s *server, n int) []*wire {
	t.Helper()
	wires := make([]*wire, n)
	t.Cleanup(func() {
		for _, w := range wires {
			if w != nil {
				w.Close()
			}
		}
	})
	err := forEach(n, func(i int) (err error) {
		if wires[i], err = open(s.addr); err != nil {
			return err
		}
		return echoOnce(wires[i], i)
	})
	if err != nil {
		t.Fatal(err)
	}
	return wires
}

// echoOnce echoes a message that no other connection sends.
func echoOnce(w *wire, i int) error {
	message := text(fmt.Sprint("connection ", i, " at ", w.LocalAddr()))
	return errors.Join(w.send(message), w.expect(message))
}

func closeCleanly(w *wire) error {
	return errors.Join(w.send(closeFrame(1000, "")), w.expect(closeFrame(1000, "")), w.expectEOF())
}

func TestTenThousandConnections(t *testing.T) {
	const n = 10_000
	needDescriptors(t, n)
	s := start(t)
	before := s.descriptors()
	wires := openMany(t, s, n)
	// A second message, with all connections open.
	if err := forEach(n, func(i int) error { return echoOnce(wires[i], i) }); err != nil {
		t.Fatal(err)
	}
	if open := s.descriptors(); open < n {
		t.Fatalf("got %d open descriptors, want at least %d for the connections", open, n)
	}
	if err := forEach(n, func(i int) error { return closeCleanly(wires[i]) }); err != nil {
		t.Fatal(err)
	}
	s.wantDescriptors(before)
	s.stop()
}

// Thousands of connections open and end, some without a closing handshake. Connections that stay
// open are not affected.
func TestChurn(t *testing.T) {
	const opened, rounds, permanent = 1000, 5, 50
	s := start(t)
	before := s.descriptors()

	over := make(chan struct{})
	stayed := make([]error, permanent)
	var echoes atomic.Int64
	var group sync.WaitGroup
	for i := range permanent {
		p := s.upgrade(t)
		group.Go(func() { stayed[i] = echoUntil(over, p.wire, i, &echoes) })
	}
	for range rounds {
		wires := openMany(t, s, opened)
		err := forEach(opened, func(i int) error {
			if i%10 == 0 {
				return abort(wires[i], i)
			}
			return closeCleanly(wires[i])
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	group.Wait()
	if err := errors.Join(stayed...); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d echoes while %d connections opened and ended", echoes.Load(), opened*rounds)
	s.wantDescriptors(before)
	s.stop()
}

// echoUntil echoes messages until over is closed, and then closes the connection.
func echoUntil(over <-chan struct{}, w *wire, i int, echoes *atomic.Int64) error {
	// The pause leaves CPU time to the other connections.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return closeCleanly(w)
		case <-tick.C:
			if err := echoOnce(w, i); err != nil {
				return fmt.Errorf("permanent connection %d: %w", i, err)
			}
			echoes.Add(1)
		}
	}
}

// abort ends TCP in the middle of a frame, every other time with a reset.
func abort(w *wire, i int) error {
	b := encode(text("never finished"))
	if _, err := w.Write(b[:len(b)-3]); err != nil {
		return err
	}
	if i%20 == 0 {
		if err := w.reset(); err != nil {
			return err
		}
	}
	return w.Close()
}
