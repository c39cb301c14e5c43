package pool

// trimEvery is the time between two trims of the arena, in ticks: about 1 s.
const trimEvery = 64

// housekeep does the periodic work, at most once every sweepEvery.
func (w *worker) housekeep() {
	cs := &w.conns
	if cs.now-w.swept < sweepEvery {
		return
	}
	w.swept = cs.now
	if !w.drain.begun {
		w.acceptor.resume(cs.now)
	}
	if cs.store.needsTrim && cs.now%trimEvery < sweepEvery {
		cs.store.trim()
	}
	w.continueDrain()
	for fd := range cs.deadlines.expired(cs.now, cs.deadline) {
		cs.expire(cs.at(fd))
	}
}

// periodic reports whether there is periodic work to do even if no event arrives.
func (w *worker) periodic() bool {
	return w.conns.deadlines.n > 0 || w.drain.begun || !w.acceptor.watching || w.conns.store.needsTrim
}
