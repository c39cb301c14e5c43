package admin

import "sync"

// shared makes something once for all calls of get that wait at the same time. What get returns was
// begun after the call, not before: promhttp's own CoalesceGather hands out the same old metrics
// for as long as scrapes overlap.
type shared[T any] struct {
	make func() (T, error)

	turn sync.Mutex // held while one is made

	mu   sync.Mutex // protects next
	next *made[T]   // waits for its turn; nil: there is none
}

// made is the result of one call of make.
type made[T any] struct {
	done  chan struct{} // closed when the result is there
	value T
	err   error
}

func share[T any](make func() (T, error)) *shared[T] { return &shared[T]{make: make} }

// get returns a result, which callers share, and may only read.
func (s *shared[T]) get() (T, error) {
	s.mu.Lock()
	m := s.next
	if m != nil {
		s.mu.Unlock()
		<-m.done
		return m.value, m.err
	}
	m = &made[T]{done: make(chan struct{})}
	s.next = m
	s.mu.Unlock()

	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil // later calls may come too late for what begins now
	s.mu.Unlock()
	defer close(m.done)
	m.value, m.err = s.make()
	return m.value, m.err
}
