package generate

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Clock measures the time since it began, in nanoseconds, without the time during which the
// process was stopped.
type Clock struct {
	began   time.Time
	stopped *atomic.Int64 // see StoppedTime
	before  int64         // the value of stopped when the clock began
}

// NewClock returns a clock that begins now. Stopped is the total time during which the process was
// stopped, in nanoseconds. If it is nil, all time counts.
func NewClock(stopped *atomic.Int64) Clock {
	if stopped == nil {
		stopped = new(atomic.Int64)
	}
	for c := (Clock{stopped: stopped}); ; {
		c.before = stopped.Load()
		c.began = time.Now()
		if stopped.Load() == c.before { // otherwise the process was stopped in between
			return c
		}
	}
}

// Began returns when the clock began.
func (c *Clock) Began() time.Time { return c.began }

// Now returns the nanoseconds since the clock began.
func (c *Clock) Now() int64 {
	for {
		stopped := c.stopped.Load()
		now := int64(time.Since(c.began))
		if c.stopped.Load() == stopped { // otherwise the process was stopped in between
			return now - (stopped - c.before)
		}
	}
}

// stoppedFor returns the total nanoseconds during which the process was stopped; 0 if unknown.
func (c *Clock) stoppedFor() int64 { return c.stopped.Load() }

// StoppedTime maps a file that holds a native-endian int64: the total nanoseconds during which this
// process was stopped. A process that stops this one (SIGSTOP) adds to it before it continues this
// one (SIGCONT), so that neither rates nor latencies include it. StoppedTime returns an
// error if the file is shorter than 8 bytes or cannot be mapped.
func StoppedTime(file string) (*atomic.Int64, error) {
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
