package admin

import "sync"

// shared combines simultaneous calls of get into one call of make. The call of make begins after
// the calls of get whose result it is; promhttp's CoalesceGather, in contrast, returns the same old
// metrics as long as scrapes overlap.
type shared[T any] struct {
	make func() (T, error)

	running sync.Mutex // held during make

	mu   sync.Mutex // protects next
	next *made[T]   // the call of make that waits for running; nil: none
}

// made is the result of one call of make.
type made[T any] struct {
	done  chan struct{} // closed when value and err are valid
	value T
	err   error
}

func share[T any](make func() (T, error)) *shared[T] { return &shared[T]{make: make} }

// get returns a result, which several callers may share: they must not modify it.
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

	s.running.Lock()
	defer s.running.Unlock()
	s.mu.Lock()
	s.next = nil // calls from now on need a later result
	s.mu.Unlock()
	defer close(m.done)
	m.value, m.err = s.make()
	return m.value, m.err
}
