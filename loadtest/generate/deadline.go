package generate

import (
	"fmt"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

const (
	// sweepTime is the time between two sweeps.
	sweepTime = 20 * time.Millisecond

	// sweepParts is the number of sweeps that examine all connections, which takes about a second.
	// Timeouts are late by up to that.
	sweepParts = 50
)

// A sweep examines a part of the connections from time to time. A connection needs no timer of its
// own.
type sweep struct {
	at   int64 // when the next one is due
	last int   // index of the connection that was examined last
}

// due reports whether the next sweep is due, and sets the time of the one after it.
func (s *sweep) due(now int64) bool {
	if now < s.at {
		return false
	}
	s.at = now + int64(sweepTime)
	return true
}

// part returns the indexes of the connections that the sweep examines, of n.
func (s *sweep) part(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for range min(n, n/sweepParts+1) {
			s.last = (s.last + 1) % n
			if !yield(s.last) {
				return
			}
		}
	}
}

// alarmGen is the alarm's generation in events; no connection has it as its index.
const alarmGen = 1<<32 - 1

// An alarm wakes a worker at a time. It is a timerfd, since the timeout of epoll_wait(2) is in
// whole milliseconds.
type alarm struct {
	clock *Clock
	fd    int
	at    int64 // when it was last set to
}

// newAlarm returns an alarm that wakes the waiter of a poller.
func newAlarm(clock *Clock, poller *netpoll.Poller) (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return alarm{}, fmt.Errorf("timerfd_create: %w", err)
	}
	if err := poller.Add(fd, alarmGen, netpoll.Read); err != nil {
		unix.Close(fd)
		return alarm{}, err
	}
	return alarm{clock: clock, fd: fd}, nil
}

// wakeAt sets the alarm, unless it is set to an earlier time that is still to come.
func (a *alarm) wakeAt(at, now int64) {
	if now < a.at && a.at <= at {
		return
	}
	a.at = at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at-a.clock.Now()))}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		panic("generate: timerfd_settime: " + err.Error())
	}
}

func (a *alarm) close() { unix.Close(a.fd) }
