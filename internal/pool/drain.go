package pool

import (
	"math/bits"
	"time"
)

// drainTurns is how many more turns a connection gets when the pool shuts
// down: enough for what the kernel may have received for it before, of which there are at most
// some MiB (tcp_rmem); few enough that one that never stops sending is told all the same.
const drainTurns = 128

// Shutdown closes the pool to new connections, gives those it has what they are owed,
// says goodbye to them, and waits until the last has answered or timeout is over; then it closes
// what is left. It returns when all workers have ended. To ask for it again is to wait for that, too.
func (p *Pool) Shutdown(timeout time.Duration) {
	if p.draining.Swap(true) {
		p.running.Wait()
		return
	}
	deaf := make([]chan struct{}, len(p.workers))
	for i, w := range p.workers {
		deaf[i] = make(chan struct{})
		w.post(letter{do: func(w *worker) {
			w.unlisten()
			close(deaf[i])
			w.drain(timeout)
		}})
	}
	for i, w := range p.workers {
		select {
		case <-deaf[i]:
		case <-w.ended:
		}
	}
	for _, l := range p.listeners {
		l.Close()
	}
	p.running.Wait()
	p.warnings.end()
}

// drain gives every connection of the worker a turn, and sees off those that
// have been answered all they sent. Peers that are behind with reading have half of the time
// for that.
func (w *worker) drain(timeout time.Duration) {
	w.draining = true
	w.hurryAt = w.now + ticks(timeout/2)
	w.cutAt = w.now + ticks(timeout)
	w.mine.each(func(fd int) {
		s := &w.pool.slots[fd]
		l := life{int32(fd), s.gen}
		s.set(unread)
		w.turn(fd, s)
		w.seeOff(l)
	})
}

// hurry says goodbye to everybody else when half of the time is over: behind
// what they have not read yet, and before the echo of what they have sent since.
// Those who read it in the other half have been told.
func (w *worker) hurry() {
	w.hurried = true
	w.mine.each(func(fd int) { w.goodbye(fd, &w.pool.slots[fd], goingAway) })
}

// seeOff says goodbye to a connection while the pool is draining, if what it
// has sent before is answered and the kernel has taken the answer. Otherwise it is asked again
// after the connection's next turn.
func (w *worker) seeOff(l life) {
	s := w.slotOf(l)
	if s == nil || w.hasUnsent(s) || s.is(parked) {
		return
	}
	if s.is(unread) && s.turns < drainTurns && !w.hurried {
		s.turns++
		w.goOn(int(l.fd), s)
		return
	}
	w.goodbye(int(l.fd), s, goingAway)
}

// each calls f with every member. f may remove the member.
func (s fdSet) each(f func(fd int)) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			f(i<<6 + bits.TrailingZeros64(word))
		}
	}
}
