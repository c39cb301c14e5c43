package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A timer tells the time since it began, in nanoseconds.
type timer struct {
	began  time.Time
	paused *atomic.Int64 // nanoseconds that are not counted: see pausedTime
	before int64         // of them, before it began
}

// newTimer makes a timer that begins now. Paused may be nil: then all time counts.
func newTimer(paused *atomic.Int64) timer {
	if paused == nil {
		paused = new(atomic.Int64)
	}
	for t := (timer{paused: paused}); ; {
		t.before = paused.Load()
		t.began = time.Now()
		if paused.Load() == t.before { // or it was stopped in between
			return t
		}
	}
}

func (t *timer) now() int64 {
	for {
		paused := t.paused.Load()
		now := int64(time.Since(t.began))
		if t.paused.Load() == paused { // or it was stopped in between
			return now - (paused - t.before)
		}
	}
}

// stopped is how long the process was stopped, if that is told.
func (t *timer) stopped() int64 { return t.paused.Load() }

// pausedTime is a number of nanoseconds that another process writes, in a file that both have mapped: who stops this one (SIGSTOP) adds there
// how long that was, before it lets it go on (SIGCONT). So latencies and rates are as if nothing had been.
func pausedTime(file string) (*atomic.Int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = int(unsafe.Sizeof(atomic.Int64{}))
	if info, err := f.Stat(); err != nil || info.Size() < int64(size) {
		return nil, errors.Join(err, fmt.Errorf("%s is not %d bytes long", file, size))
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return (*atomic.Int64)(unsafe.Pointer(&mem[0])), nil
}
