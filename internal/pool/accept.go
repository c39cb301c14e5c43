package pool

import (
	"net/netip"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// maxSurplus is the maximum number of surplus connections of a worker: connections beyond a limit
// that are open only until their request is answered with 503. Each occupies a descriptor.
const maxSurplus = 64

// accept takes up to acceptBatch connections from a listener's backlog.
func (w *worker) accept(listener int) {
	i := w.acceptor.index(listener)
	if i < 0 {
		return
	}
	cs := &w.conns
	failures := 0
	for range acceptBatch {
		fd, peer, err := w.acceptor.next(listener)
		switch {
		case err == netpoll.ErrExhausted:
			w.refuseWithReserve(listener)
			return
		case err != nil:
			w.acceptFailed(err)
			failures++
			if !netpoll.FailedInBacklog(err) {
				w.acceptor.pause(i, cs.now)
				return
			}
		case fd < 0:
			return
		default:
			cs.count.Accepted++
			w.assign(fd, peer)
		}
	}
	if failures == acceptBatch { // the error is not specific to one connection after all
		w.acceptor.pause(i, cs.now)
	}
}

// refuseWithReserve refuses connections because descriptors have run out.
func (w *worker) refuseWithReserve(listener int) {
	cs := &w.conns
	cs.count.Exhausted++
	cs.warnings.exhausted.note()
	w.acceptor.refuseAll(listener, cs.now, func(fd int) {
		cs.count.Accepted++
		cs.count.RefusedExhausted++
		cs.refuseAtOnce(fd, echo.RefuseFull)
	}, w.acceptFailed)
}

// acceptFailed counts an accept4 error other than a lack of descriptors or memory.
func (w *worker) acceptFailed(err error) {
	w.conns.count.AcceptErrors++
	w.conns.warnings.accept.noteError(err)
}

// assign hands an accepted connection to a worker, or refuses it.
func (w *worker) assign(fd int, peer netip.AddrPort) {
	cs := &w.conns
	if fd >= len(cs.slots) {
		cs.count.RefusedFull++
		cs.warnings.full.note()
		cs.refuseAtOnce(fd, echo.RefuseFull)
		return
	}
	source, refusal := cs.census.in(peer.Addr())
	switch refusal {
	case nil:
		if !w.place(arrival{fd: fd, peer: peer, source: source}) {
			cs.census.out(source, true)
			cs.count.RefusedDraining++
			cs.refuseAtOnce(fd, echo.RefuseFull)
		}
		return
	case echo.RefuseFull:
		cs.count.RefusedFull++
		cs.warnings.full.note()
	default:
		cs.count.RefusedPerIP++
		cs.warnings.perIP.note()
	}
	if cs.surplus >= maxSurplus {
		cs.refuseAtOnce(fd, refusal)
		return
	}
	cs.load.Add(1)
	w.admit(arrival{fd: fd, peer: peer, refusal: refusal})
}

// admit makes an arrival one of the worker's connections. If the pool is draining, the arrival was
// on its way when the drain began, and is treated like the connections that were open then.
func (w *worker) admit(a arrival) {
	cs := &w.conns
	c := cs.at(a.fd)
	if c.is(inUse) {
		panic("pool: an arriving descriptor is a connection already")
	}
	*c.slot = slot{gen: max(c.gen, listenerGen+1), flags: inUse, since: cs.now, opened: cs.now, source: a.source, proto: a.proto}
	if a.refusal != nil {
		c.set(surplus)
		c.put(overSource, a.refusal == echo.RefusePerIP)
		cs.surplus++
	}
	if a.adopted {
		cs.count.Adopted++
	}
	cs.mine.add(c.fd)
	cs.observer.opened(c, a.peer)
	l := c.life()
	switch err := cs.poller.Add(c.fd, c.gen, netpoll.Read); {
	case err != nil:
		cs.fail(c, err)
	case len(a.read) > 0:
		cs.firstTurn(c, a.read)
	case w.drain.begun:
		c.set(unread)
		cs.turn(c)
	default:
		cs.update(c)
	}
	if w.drain.begun {
		w.closeWhenAnswered(l)
	}
}
