package generate

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The time during which the process was stopped does not count, neither before nor after the clock
// began.
func TestStoppedTimeDoesNotCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stopped")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := func(stopped time.Duration) {
		if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(stopped)), 0); err != nil {
			t.Fatal(err)
		}
	}
	set(time.Hour) // before the clock began
	stopped, err := StoppedTime(file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	clock := NewClock(stopped)
	if now := clock.Now(); now < 0 || now > int64(time.Since(began)) {
		t.Errorf("a new clock is at %v, want about 0", time.Duration(now))
	}
	set(time.Hour + time.Minute)
	if now := clock.Now(); now < -int64(time.Minute) || now > int64(time.Since(began)-time.Minute) {
		t.Errorf("after a stop of 1 min the clock is at %v, want about -1 min", time.Duration(now))
	}
}
