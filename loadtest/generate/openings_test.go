package generate

import (
	"slices"
	"testing"
	"time"
)

// Pauses between openings double up to longestPause, and start again after a verified message.
func TestPausesDoubleUntilAMessageIsVerified(t *testing.T) {
	var o openings
	c := conn{3, &slot{}}
	o.addAfterFailure(c, 0)
	if !slices.Equal(o.ready, []int{3}) || len(o.later) > 0 {
		t.Fatalf("the first opening is not immediate: %+v", o)
	}
	want := firstPause
	for range 40 {
		o = openings{}
		o.addAfterFailure(c, 1000)
		if len(o.later) != 1 || o.pending() != 1 || o.later[0].at != 1000+int64(want) {
			t.Fatalf("got %+v, want a pause of %v", o, want)
		}
		if o.endPauses(1000 + int64(want) - 1); len(o.ready) > 0 {
			t.Fatalf("the pause of %v ended early", want)
		}
		if o.endPauses(1000 + int64(want)); !slices.Equal(o.ready, []int{3}) || len(o.later) > 0 {
			t.Fatalf("the pause of %v did not end: %+v", want, o)
		}
		want = min(2*want, longestPause)
	}
	c.tries = 0 // a message was verified
	o = openings{}
	if o.addAfterFailure(c, 0); len(o.ready) != 1 {
		t.Errorf("the opening after a verified message is not immediate: %+v", o)
	}
}

// skipPauses makes all waiting connections ready at the next sweep.
func TestSkipPausesEndsAllPauses(t *testing.T) {
	var o openings
	for i := range 3 {
		o.addLater(conn{i, &slot{}}, int64(time.Hour))
	}
	o.skipPauses(5)
	if o.endPauses(5); !slices.Equal(o.ready, []int{0, 1, 2}) || o.pending() != 3 {
		t.Errorf("got %+v, want 3 connections ready", o)
	}
}

// Only the first opening of a connection settles it.
func TestFirstOpeningSettlesAConnection(t *testing.T) {
	o := openings{unsettled: 2, settled: make(chan struct{})}
	isSettled := func() bool {
		select {
		case <-o.settled:
			return true
		default:
			return false
		}
	}
	first, second := conn{0, &slot{rounds: 1}}, conn{1, &slot{rounds: 1}}
	o.settle(first)
	first.rounds = 2
	o.settle(first)
	if isSettled() {
		t.Error("settled is closed after one of two connections")
	}
	if o.settle(second); !isSettled() {
		t.Error("settled is not closed after both connections")
	}
}
