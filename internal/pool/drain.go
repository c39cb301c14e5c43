package pool

import "time"

// drainTurns is the most turns that a connection gets while the pool shuts down: enough for what
// the kernel may have received for it before, at most some MiB (tcp_rmem), and few enough that a
// peer that never stops sending is told to go.
const drainTurns = 128

// beginDrain gives every connection a turn, and tells those to go that have been answered all
// they sent. Peers that have yet to read have half of the time for that.
func (w *worker) beginDrain(timeout time.Duration) {
	cs := &w.conns
	w.drain = drain{begun: true, hurryAt: cs.now + ticks(timeout/2), cutAt: cs.now + ticks(timeout)}
	for fd := range cs.mine.all() {
		c := cs.at(fd)
		c.set(unread)
		l := c.life()
		cs.turn(c)
		w.seeOff(l)
	}
}

// continueDrain does what is due in a drain. When half of the time is over it tells everyone: a
// peer finds the close frame behind what it has not read yet, and before the echo of what it has
// sent since. When all of it is over, it closes the connections that remain.
func (w *worker) continueDrain() {
	cs := &w.conns
	if w.drain.begun && !w.drain.hurried && cs.now.reached(w.drain.hurryAt) {
		w.drain.hurried = true
		for fd := range cs.mine.all() {
			cs.goodbye(cs.at(fd), goodbyeShutdown)
		}
	}
	if w.drain.begun && cs.now.reached(w.drain.cutAt) {
		for fd := range cs.mine.all() {
			cs.end(cs.at(fd), CutByShutdown)
		}
	}
}

// seeOff tells a connection to go, during a drain, if what it has sent is answered and the kernel
// has taken the answer. Otherwise it is considered again after its next turn.
func (w *worker) seeOff(l life) {
	cs := &w.conns
	c, ok := cs.find(l)
	if !ok || cs.store.hasUnsent(c.slot) || c.is(parked) {
		return
	}
	if c.is(unread) && c.turns < drainTurns && !w.drain.hurried {
		c.turns++
		cs.goOn(c)
		return
	}
	cs.goodbye(c, goodbyeShutdown)
}
