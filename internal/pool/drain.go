package pool

import (
	"math/bits"
	"sync"
	"time"
)

// drainTurns is how many more turns a connection gets when the pool shuts
// down: enough for all that one has sent before, few enough that one that never
// stops sending is told all the same.
const drainTurns = 16

// Shutdown closes the pool to new connections, gives those it has what they are owed,
// says goodbye to them, and waits until the last has answered or timeout is over; then it closes
// what is left. It returns when all workers have ended.
func (p *Pool) Shutdown(timeout time.Duration) {
	p.draining.Store(true)
	var deaf sync.WaitGroup
	for _, w := range p.workers {
		deaf.Add(1)
		if !w.post(letter{do: func(w *worker) {
			w.unlisten()
			deaf.Done()
			w.drain(timeout)
		}}) {
			deaf.Done()
		}
	}
	deaf.Wait()
	for _, l := range p.listeners {
		l.Close()
	}
	p.running.Wait()
}

// drain says goodbye to all connections of the worker. What they have sent
// before is echoed before.
func (w *worker) drain(timeout time.Duration) {
	if w.draining {
		return
	}
	w.draining = true
	w.cutAt = w.now + ticks(timeout)
	w.mine.each(func(fd int) {
		s := &w.pool.slots[fd]
		gen := s.gen
		s.set(unread)
		for range drainTurns {
			if w.turn(fd, s); s.gen != gen || !s.is(unread) || w.hasUnsent(s) {
				break
			}
		}
		if s.gen == gen {
			w.goodbye(fd, s, goingAway)
		}
	})
}

// each calls f with every member. f may remove the member.
func (s fdSet) each(f func(fd int)) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			f(i<<6 + bits.TrailingZeros64(word))
		}
	}
}
