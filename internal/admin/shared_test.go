package admin

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Calls that wait at the same time share a result, and none gets one that was begun before it
// called.
func TestShared(t *testing.T) {
	const n = 20
	var begun, calling atomic.Int64
	first, end := make(chan int), make(chan int)
	s := share(func() (int64, error) {
		i := begun.Add(1)
		if i == 1 {
			close(first)
			<-end
		}
		return i, nil
	})
	var calls sync.WaitGroup
	call := func() {
		before := begun.Load()
		calling.Add(1)
		if got, err := s.get(); got <= before || err != nil {
			t.Errorf("%d, %v: %d had begun before the call", got, err, before)
		}
	}
	calls.Go(call)
	<-first
	for range n {
		calls.Go(call)
	}
	waitFor(t, "the others wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return calling.Load() == n+1 && s.next != nil
	})
	close(end)
	calls.Wait()
	if begun.Load() == n+1 {
		t.Error("each call had a result of its own")
	}
}
