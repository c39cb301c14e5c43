package generate

import (
	"fmt"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

const (
	// sweepTime is the interval between two sweeps.
	sweepTime = 20 * time.Millisecond

	// sweepParts is the number of sweeps that together examine every connection. They take about
	// 1 s, so a timeout is detected up to 1 s late.
	sweepParts = 50
)

// A sweep examines the connections for timeouts, one part at a time, so that no connection needs a
// timer.
type sweep struct {
	at   int64 // when the next part is due
	last int   // index of the last examined connection
}

// due reports whether the next part is due. If so, it sets the time of the one after it.
func (s *sweep) due(now int64) bool {
	if now < s.at {
		return false
	}
	s.at = now + int64(sweepTime)
	return true
}

// part returns the indexes of the next part of n connections.
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

// alarmGen is the generation in the alarm's events. No connection has this index.
const alarmGen = 1<<32 - 1

// An alarm wakes a worker at a set time. It is a timerfd, because the timeout of epoll_wait(2) has
// a resolution of 1 ms.
type alarm struct {
	clock *Clock
	fd    int
	at    int64 // the time for which it was last set
}

// newAlarm returns an alarm that ends the waits of a poller.
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

// wakeAt sets the alarm, unless it is already set to an earlier time in the future.
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
