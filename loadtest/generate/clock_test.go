package generate

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The time during which the process was stopped does not count, before the clock began or after.
func TestStoppedTimeDoesNotCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stopped")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keep := func(stopped time.Duration) {
		if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(stopped)), 0); err != nil {
			t.Fatal(err)
		}
	}
	keep(time.Hour) // before it began
	stopped, err := StoppedTime(file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	clock := NewClock(stopped)
	if now := clock.Now(); now < 0 || now > int64(time.Since(began)) {
		t.Errorf("it begins at %v", time.Duration(now))
	}
	keep(time.Hour + time.Minute)
	if now := clock.Now(); now < -int64(time.Minute) || now > int64(time.Since(began)-time.Minute) {
		t.Errorf("after a minute that did not count it is %v", time.Duration(now))
	}
}
