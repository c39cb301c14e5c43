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
	// acceptBatch is the most connections that a worker accepts before it serves those it has. The
	// listener is level-triggered: it reports again what is left.
	acceptBatch = 64

	// acceptPause is how long a worker does not accept after descriptors had run out so completely
	// that nothing could be refused either, or from one listener after an unknown error of accept4.
	acceptPause = 100 * time.Millisecond
)

// An acceptor takes connections from the listeners' backlogs for one worker.
type acceptor struct {
	poller    *netpoll.Poller
	listeners []netpoll.Listener // shared by all workers
	reserve   *reserveFD         // shared by all workers
	accept4   func(listener int) (int, netip.AddrPort, error)

	watched  []bool // by index of the listener
	watching bool   // all of them
	resumeAt tick   // if not watching all: when to begin again
}

// watch begins to watch the listeners that are not watched yet. One that cannot be watched does not
// keep the others from it.
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

// ignore ends the watching of all listeners.
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

// index returns the index of a listener that is watched, or -1: the event is from before ignore.
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

// next accepts a connection. A descriptor of -1 without an error means that there is none. The error
// is netpoll.ErrExhausted if there is no descriptor for it; of the others, netpoll.FailedInBacklog
// reports whether they concern a single connection.
func (a *acceptor) next(listener int) (fd int, peer netip.AddrPort, err error) {
	a.reserve.mu.RLock()
	defer a.reserve.mu.RUnlock()
	return a.accept4(listener)
}

// refuseAll passes connections to refuse, which closes them, and errors to failed, when descriptors
// have run out. If left in the backlog, connections would wait and wake the worker without end. Each is
// accepted with the descriptor held in reserve.
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
			// Another thread was faster, or memory or the system's file table is exhausted. Let it recover.
			a.ignore()
			a.resumeAt = now + ticks(acceptPause)
			return
		}
		if fd < 0 && err == nil {
			return
		}
	}
}

// resume begins to watch again after a pause. The reserve is restored first: otherwise the first
// connection would get the only descriptor, and the next ones no answer.
func (a *acceptor) resume(now tick) {
	if a.watching || !now.reached(a.resumeAt) {
		return
	}
	if a.reserve.restore() != nil || a.watch() != nil {
		a.resumeAt = now + ticks(acceptPause)
	}
}

// unwatch removes a descriptor from a poller. It panics if it cannot because of a bug of ours. If a
// security module forbids it, close(2) does it, or the generation exposes late events.
func unwatch(poller *netpoll.Poller, fd int) {
	err := poller.Remove(fd)
	for _, bug := range []error{unix.EBADF, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, bug) {
			panic("pool: " + err.Error())
		}
	}
}
