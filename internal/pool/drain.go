package pool

import "time"

// drainTurns is the maximum number of turns that a connection gets while the pool shuts down. That
// is enough for the input that the kernel had received before, at most some MiB (tcp_rmem), and few
// enough that a peer that never stops sending gets its close frame.
const drainTurns = 128

// beginDrain gives every connection a turn, and sends a close frame to those whose input is all
// answered. Peers that have not read their echoes yet get half of timeout to do so.
func (w *worker) beginDrain(timeout time.Duration) {
	cs := &w.conns
	w.drain = drain{begun: true, hurryAt: cs.now + ticks(timeout/2), cutAt: cs.now + ticks(timeout)}
	for fd := range cs.mine.all() {
		c := cs.at(fd)
		c.set(unread)
		l := c.life()
		cs.turn(c)
		w.closeWhenAnswered(l)
	}
}

// continueDrain advances a drain. After half of the timeout it sends a close frame to all remaining
// connections: a peer receives it after the echoes that it has not read yet, and gets no echo of
// what it sends later. After the whole timeout it closes the remaining connections.
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

// closeWhenAnswered sends a close frame to a connection during a drain if its input is answered and
// the kernel has taken the reply. Otherwise closeWhenAnswered is called again after the
// connection's next turn.
func (w *worker) closeWhenAnswered(l life) {
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
