package generate

import (
	"testing"
	"time"

	"wsecho/internal/netpoll"
)

// sweepParts sweeps examine every connection, in parts of about the same size.
func TestSweepsExamineEveryConnection(t *testing.T) {
	for _, n := range []int{1, 2, 49, 50, 51, 1000, 12_345} {
		var s sweep
		seen := make([]int, n)
		for range sweepParts {
			part := 0
			for index := range s.part(n) {
				seen[index]++
				part++
			}
			if part > n/sweepParts+1 {
				t.Fatalf("a sweep examines %d of %d connections", part, n)
			}
		}
		for index, times := range seen {
			if times == 0 {
				t.Fatalf("connection %d of %d was not examined", index, n)
			}
		}
	}
}

func TestSweepIsDueEverySweepTime(t *testing.T) {
	var s sweep
	if !s.due(7) || s.due(7) || s.due(7+int64(sweepTime)-1) || !s.due(7+int64(sweepTime)) {
		t.Errorf("sweeps are not due every %v", sweepTime)
	}
}

// The alarm ends a wait at the earliest future time for which it was set.
func TestAlarmEndsTheWait(t *testing.T) {
	poller, err := netpoll.New()
	if err != nil {
		t.Fatal(err)
	}
	defer poller.Close()
	clock := NewClock(nil)
	a, err := newAlarm(&clock, poller)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	events := make([]netpoll.Event, 1)
	for range 3 { // an alarm can be set repeatedly
		now := clock.Now()
		soon := now + int64(5*time.Millisecond)
		a.wakeAt(soon, now)
		a.wakeAt(now+int64(time.Hour), now)
		n, _, err := poller.Wait(events, time.Minute)
		if err != nil || n != 1 || events[0].Gen() != alarmGen {
			t.Fatalf("got %d events, %v; want the alarm's event", n, err)
		}
		if now := clock.Now(); now < soon || now > soon+int64(30*time.Second) {
			t.Errorf("the wait ended %v after the set time", time.Duration(now-soon))
		}
	}
}
