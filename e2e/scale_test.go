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

// spare descriptors, for all that is not a connection.
const spare = 200

// needDescriptors leaves a test that this machine's limit does not allow. The server, a process of its own, raises its
// limit as Go does ours: to the hard one.
func needDescriptors(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < uint64(n+spare) {
		unavailable(t, "%d descriptors a process are not enough for %d connections", limit.Max, n)
	}
}

// hands is how many goroutines serve a crowd: a goroutine for each of its connections would be more than the race
// detector can follow.
const hands = 64

// forEach does what is to be done for 0 to n-1, and returns the first failure.
func forEach(n int, do func(i int) error) error {
	var next atomic.Int64
	failures := make(chan error, hands)
	for range hands {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					failures <- nil
					return
				}
				if err := do(i); err != nil {
					next.Store(int64(n)) // the others need not go on
					failures <- fmt.Errorf("connection %d of %d: %w", i, n, err)
					return
				}
			}
		}()
	}
	var first error
	for range hands {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return first
}

// crowd opens n connections that each echo once.
func crowd(t *testing.T, s *server, n int) []*wire {
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

// echoOnce: a message that no other connection sends.
func echoOnce(w *wire, i int) error {
	message := text(fmt.Sprint("connection ", i, " at ", w.LocalAddr()))
	return errors.Join(w.send(message), w.expect(message))
}

func closeCleanly(w *wire) error {
	return errors.Join(w.send(closing(1000, "")), w.expect(closing(1000, "")), w.expectEOF())
}

func TestTenThousand(t *testing.T) {
	const n = 10_000
	needDescriptors(t, n)
	s := start(t)
	before := s.descriptors()
	wires := crowd(t, s, n)
	// Once more, now that all are there.
	if err := forEach(n, func(i int) error { return echoOnce(wires[i], i) }); err != nil {
		t.Fatal(err)
	}
	if open := s.descriptors(); open < n {
		t.Fatalf("the server holds %d descriptors: that is not %d connections at once", open, n)
	}
	if err := forEach(n, func(i int) error { return closeCleanly(wires[i]) }); err != nil {
		t.Fatal(err)
	}
	s.wantDescriptors(before)
	s.stop()
}

// A crowd comes and goes, some of it without a word; those who stay notice nothing.
func TestChurn(t *testing.T) {
	const comers, rounds, stayers = 1000, 5, 50
	s := start(t)
	before := s.descriptors()

	over := make(chan struct{})
	stayed := make([]error, stayers)
	var echoes atomic.Int64
	var group sync.WaitGroup
	for i := range stayers {
		p := s.upgrade(t)
		group.Go(func() { stayed[i] = echoUntil(over, p.wire, i, &echoes) })
	}
	for range rounds {
		wires := crowd(t, s, comers)
		err := forEach(comers, func(i int) error {
			if i%10 == 0 {
				return leaveRudely(wires[i], i)
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
	t.Logf("%d echoes beside %d connections that came and went", echoes.Load(), comers*rounds)
	s.wantDescriptors(before)
	s.stop()
}

// echoUntil keeps echoing until it is over, and then closes.
func echoUntil(over <-chan struct{}, w *wire, i int, echoes *atomic.Int64) error {
	// A pause, so that the two processors are not ours alone.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return closeCleanly(w)
		case <-tick.C:
			if err := echoOnce(w, i); err != nil {
				return fmt.Errorf("stayer %d: %w", i, err)
			}
			echoes.Add(1)
		}
	}
}

// leaveRudely ends TCP within a frame, with a reset every other time.
func leaveRudely(w *wire, i int) error {
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
