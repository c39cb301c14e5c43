package pool

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

const (
	// acceptBatch is the maximum number of connections that a worker accepts before it serves those
	// it has. Listeners are level-triggered, so connections left in the backlog are reported again.
	acceptBatch = 64

	// acceptPause is the time for which a worker stops accepting when it has not even a descriptor
	// with which to refuse, and for which it ignores one listener after an unknown accept4 error.
	acceptPause = 100 * time.Millisecond
)

// An acceptor takes connections from the listeners' backlogs for one worker.
type acceptor struct {
	poller    *netpoll.Poller
	listeners []netpoll.Listener // shared by all workers
	reserve   *reserveFD         // shared by all workers
	accept4   func(listener int) (int, netip.AddrPort, error)

	watched  []bool // by listener index: registered with the poller
	watching bool   // all listeners are watched
	resumeAt tick   // when to watch again, if watching is false
}

// watch registers the listeners that are not watched yet with the poller. If one of them fails, the
// others are registered all the same; the error joins all failures.
func (a *acceptor) watch() (err error) {
	for i, l := range a.listeners {
		if a.watched[i] {
			continue
		}
		failed := a.poller.Add(l.FD, listenerGen, netpoll.Accept)
		a.watched[i] = failed == nil
		err = errors.Join(err, failed)
	}
	a.watching = err == nil
	return err
}

// ignore stops watching all listeners.
func (a *acceptor) ignore() {
	for i := range a.watched {
		a.ignoreOne(i)
	}
	a.watching = false
}

func (a *acceptor) ignoreOne(i int) {
	if a.watched[i] {
		unwatch(a.poller, a.listeners[i].FD)
		a.watched[i], a.watching = false, false
	}
}

// index returns the index of a watched listener, or -1 if the event is older than ignore.
func (a *acceptor) index(listener int) int {
	i := slices.IndexFunc(a.listeners, func(l netpoll.Listener) bool { return l.FD == listener })
	if i < 0 || !a.watched[i] {
		return -1
	}
	return i
}

// pause ignores one listener for acceptPause.
func (a *acceptor) pause(i int, now tick) {
	a.ignoreOne(i)
	a.resumeAt = now + ticks(acceptPause)
}

// next accepts a connection. It returns -1 and no error if the backlog is empty. The error is
// netpoll.ErrExhausted if there is no descriptor for the connection; of any other error,
// netpoll.FailedInBacklog reports whether it is specific to one connection.
func (a *acceptor) next(listener int) (fd int, peer netip.AddrPort, err error) {
	a.reserve.mu.RLock()
	defer a.reserve.mu.RUnlock()
	return a.accept4(listener)
}

// refuseAll empties a listener's backlog when descriptors have run out: left there, the connections
// would wait, and wake the worker again and again. It accepts each connection with the reserve
// descriptor and passes it to refuse, which closes it. Errors are passed to failed.
func (a *acceptor) refuseAll(listener int, now tick, refuse func(fd int), failed func(error)) {
	a.reserve.mu.Lock()
	defer a.reserve.mu.Unlock()
	for range acceptBatch {
		a.reserve.close()
		fd, _, err := a.accept4(listener)
		if err != nil && err != netpoll.ErrExhausted {
			failed(err)
		}
		if fd >= 0 {
			refuse(fd)
		}
		if a.reserve.open() != nil || err != nil && !netpoll.FailedInBacklog(err) {
			// Another thread took the descriptor, or memory or the system's file table is
			// exhausted. Wait for it to recover.
			a.ignore()
			a.resumeAt = now + ticks(acceptPause)
			return
		}
		if fd < 0 && err == nil {
			return
		}
	}
}

// resume watches the listeners again after a pause. It restores the reserve first: otherwise the
// first connection would take the only descriptor, and the next ones would get no answer.
func (a *acceptor) resume(now tick) {
	if a.watching || !now.reached(a.resumeAt) {
		return
	}
	if a.reserve.restore() != nil || a.watch() != nil {
		a.resumeAt = now + ticks(acceptPause)
	}
}

// unwatch removes a descriptor from a poller. It panics if that fails because of a bug in this
// program. Any other failure, such as a veto by a security module, is harmless: close(2) removes
// the descriptor, and its generation exposes late events.
func unwatch(poller *netpoll.Poller, fd int) {
	err := poller.Remove(fd)
	for _, bug := range []error{unix.EBADF, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, bug) {
			panic("pool: " + err.Error())
		}
	}
}
