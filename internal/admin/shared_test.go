package admin

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Simultaneous calls share a result, and no call gets a result that was begun before the call.
func TestSharedCombinesCalls(t *testing.T) {
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
			t.Errorf("got result %d, error %v; want one after %d", got, err, before)
		}
	}
	calls.Go(call)
	<-first
	for range n {
		calls.Go(call)
	}
	waitFor(t, "all other calls are waiting", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return calling.Load() == n+1 && s.next != nil
	})
	close(end)
	calls.Wait()
	if begun.Load() == n+1 {
		t.Error("every call had its own result, want a shared one")
	}
}
