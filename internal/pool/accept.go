package pool

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

const (
	// acceptBatch is how many connections a worker accepts before it looks
	// after those it has. The listener is level-triggered: what is left is reported again.
	acceptBatch = 64

	// maxSpares is how many connections a worker has at the most that are only to be
	// refused. They need descriptors that others may need more.
	maxSpares = 64

	// deafFor is how long a worker does not accept after descriptors had run out so badly that nothing
	// could be refused either, and from one listener after an error of accept4 that it does not know.
	deafFor = 100 * time.Millisecond
)

// listen begins to watch the listeners, which all workers share, except those that it watches already.
// One that cannot be watched does not keep the others from it.
func (w *worker) listen() (err error) {
	for i, l := range w.pool.listeners {
		if w.watched[i] {
			continue
		}
		failed := w.poller.Add(l.FD, listenerGen, netpoll.Accept)
		w.watched[i] = failed == nil
		err = errors.Join(err, failed)
	}
	w.listening = err == nil
	return err
}

// unlisten ends it.
func (w *worker) unlisten() {
	for i := range w.watched {
		w.ignore(i)
	}
	w.listening = false
}

// ignore ends the watching of one listener.
func (w *worker) ignore(i int) {
	if !w.watched[i] {
		return
	}
	w.unwatch(w.pool.listeners[i].FD)
	w.watched[i] = false
	w.listening = false
}

// pause stops accepting from a listener for deafFor.
func (w *worker) pause(i int) {
	w.ignore(i)
	w.deaf = w.now + ticks(deafFor)
}

// accept takes connections from a listener's backlog.
func (w *worker) accept(listener int) {
	i := slices.IndexFunc(w.pool.listeners, func(l netpoll.Listener) bool { return l.FD == listener })
	if i < 0 || !w.watched[i] {
		return // an event from before ignore
	}
	failures := 0
	for range acceptBatch {
		w.pool.reserve.mu.RLock()
		fd, peer, err := w.pool.accept(listener)
		w.pool.reserve.mu.RUnlock()
		switch {
		case err == netpoll.ErrExhausted:
			w.exhausted(listener)
			return
		case err != nil:
			w.acceptFailed(err)
			failures++
			if !netpoll.FailedInBacklog(err) {
				w.pause(i)
				return
			}
		case fd < 0:
			return
		default:
			w.count.Accepted++
			w.welcome(fd, peer)
		}
	}
	if failures == acceptBatch { // the error is not about single connections after all
		w.pause(i)
	}
}

// acceptFailed notes an error of accept4 that is not for want of descriptors or memory.
func (w *worker) acceptFailed(err error) {
	w.count.AcceptErrors++
	w.pool.warnings.accept.noteError(err)
}

// welcome finds a worker for a connection, or refuses it.
func (w *worker) welcome(fd int, peer netip.AddrPort) {
	if fd >= len(w.pool.slots) {
		w.count.RefusedFull++
		w.pool.warnings.full.note()
		w.refuseAtOnce(fd, echo.RefuseFull)
		return
	}
	source, refusal := w.pool.countIn(peer.Addr())
	switch {
	case refusal == nil:
		if !w.pool.place(w, arrival{fd: fd, peer: peer, source: source}) {
			w.pool.countOut(source)
			w.count.RefusedDraining++
			w.refuseAtOnce(fd, echo.RefuseFull)
		}
		return
	case refusal == echo.RefuseFull:
		w.count.RefusedFull++
		w.pool.warnings.full.note()
	default:
		w.count.RefusedPerIP++
		w.pool.warnings.perIP.note()
	}
	if w.spares >= maxSpares {
		w.refuseAtOnce(fd, refusal)
		return
	}
	w.conns.Add(1)
	w.admit(arrival{fd: fd, peer: peer, refusal: refusal})
}

// turnAway refuses a connection that is one too many, as soon as it has begun to
// send its request. An answer before that is one that some clients do not expect,
// and drop.
func (w *worker) turnAway(fd int, s *slot) {
	n, err := netpoll.Recv(fd, w.buffer)
	if err != nil {
		w.lost(fd, s, err)
		return
	}
	if n == 0 {
		s.clear(unread)
		w.count.EmptyReads++
		return
	}
	w.heard(s, n)
	refusal := echo.RefuseFull
	if s.is(perSource) {
		refusal = echo.RefusePerIP
	}
	w.refuse(fd, s, refusal)
}

// admit makes an arrival the worker's own.
func (w *worker) admit(a arrival) {
	s := &w.pool.slots[a.fd]
	if s.is(inUse) {
		panic("pool: a descriptor has arrived that is a connection already")
	}
	*s = slot{gen: max(s.gen, listenerGen+1), flags: inUse, since: w.now, opened: w.now, source: a.source, proto: a.proto}
	s.put(spare, a.refusal != nil)
	s.put(perSource, a.refusal == echo.RefusePerIP)
	if s.is(spare) {
		w.spares++
	}
	if a.adopted {
		w.count.Adopted++
	}
	w.mine.add(a.fd)
	w.tellOpened(a.fd, a.peer)
	if err := w.poller.Add(a.fd, s.gen, netpoll.Read); err != nil {
		w.fail(a.fd, s, err)
		return
	}
	l := life{int32(a.fd), s.gen}
	switch {
	case len(a.read) > 0:
		w.answerRead(a.fd, s, a.read)
	case w.draining:
		s.set(unread)
		w.turn(a.fd, s)
	default:
		w.watch(a.fd, s)
	}
	if w.draining {
		w.seeOff(l) // it was on its way when the drain began, and gets what the others got then
	}
}

// answerRead is the first turn of a connection of which somebody else has read something already.
func (w *worker) answerRead(fd int, s *slot, read []byte) {
	frugal := w.spareTaken && !w.regainSpare()
	b := w.open(s)
	b.End += copy(b.Bytes[b.Start:], read)
	w.heard(s, len(read))
	before := s.proto.Phase()
	w.endpoint.Receive(&s.proto, b, !frugal)
	switch {
	case !w.send(fd, s, b):
	case w.keep(s, b):
		w.settle(fd, s, before)
	case frugal:
		w.forgo(fd, s)
	default:
		panic("pool: the spare was taken during a full turn")
	}
}

// refuseAtOnce answers 503 to a connection that can have no slot, and closes
// it. A peer that is still sending may see a reset instead of the answer.
func (w *worker) refuseAtOnce(fd int, r *echo.Refusal) {
	w.count.RefusedAtOnce++
	response := r.Append(w.buffer[:0], w.pool.cfg.Echo.Now())
	n, _ := netpoll.Send(fd, response)
	w.count.BytesOut += uint64(n)
	_ = netpoll.ShutdownWrite(fd)
	_, _ = netpoll.Recv(fd, w.buffer)
	netpoll.Close(fd)
}

// exhausted is what happens when descriptors have run out: connections in the
// backlog are not left there, where they would wait and wake the worker for
// ever, but taken with the descriptor held in reserve, told so, and closed.
func (w *worker) exhausted(listener int) {
	w.count.Exhausted++
	w.pool.warnings.exhausted.note()
	w.pool.reserve.mu.Lock()
	defer w.pool.reserve.mu.Unlock()
	for range acceptBatch {
		w.pool.reserve.close()
		fd, _, err := w.pool.accept(listener)
		if err != nil && err != netpoll.ErrExhausted {
			w.acceptFailed(err)
		}
		if fd >= 0 {
			w.count.Accepted++
			w.count.RefusedExhausted++
			w.refuseAtOnce(fd, echo.RefuseFull)
		}
		if w.pool.reserve.open() != nil || err != nil && !netpoll.FailedInBacklog(err) {
			// Somebody else was faster, or it is memory that is short, or the whole
			// system's table. Let it recover.
			w.unlisten()
			w.deaf = w.now + ticks(deafFor)
			return
		}
		if fd < 0 && err == nil {
			return
		}
	}
}

// listenAgain begins to accept again some time after exhausted or accept gave up. The
// reserve comes first: otherwise the first connection would have the only descriptor, and the
// next ones no answer.
func (w *worker) listenAgain() {
	if w.listening || w.draining || int32(w.now-w.deaf) < 0 {
		return
	}
	if w.pool.reserve.restore() != nil || w.listen() != nil {
		w.deaf = w.now + ticks(deafFor)
	}
}

// reserveFD is a descriptor that is open for the sake of being closed when
// there is no other.
type reserveFD struct {
	// mu is locked while the descriptor is in use, and read-locked by whoever
	// accepts the ordinary way: who did that meanwhile would take the reserve for a
	// connection that is to stay, and nobody could be refused any more.
	mu sync.RWMutex
	fd int // 0: none
}

// restore opens the descriptor if it could not be opened when it had been used.
func (r *reserveFD) restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open()
}

func (r *reserveFD) open() (err error) {
	if r.fd == 0 {
		// Any descriptor will do; this one needs no file system.
		if r.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			r.fd = 0
		}
	}
	return err
}

func (r *reserveFD) close() {
	if r.fd != 0 {
		netpoll.Close(r.fd)
		r.fd = 0
	}
}
