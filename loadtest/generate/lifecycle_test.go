package generate

import (
	"strings"
	"testing"
	"time"

	"wsecho/loadtest/stats"
)

// Each phase has a fault of its own for a wait that reaches the timeout.
func TestTimeoutOfEveryPhase(t *testing.T) {
	const timeout = int64(2 * time.Second)
	for _, x := range []struct {
		name  string
		slot  slot
		kind  stats.Failure
		wants string // part of the detail; empty: no timeout applies
	}{
		{"no socket", slot{phase: none}, 0, ""},
		{"TCP", slot{phase: connecting}, stats.ConnectFailed, "no answer in 2 s"},
		{"response", slot{phase: handshaking}, stats.HandshakeFailed, "no response in 2 s"},
		{"greeting", slot{phase: greeting}, stats.TimedOut, "no greeting came in 2 s"},
		{"replies", slot{phase: open, scheduled: 5, written: 5, done: 2}, stats.TimedOut, "nothing came in 2 s, and 3 replies were outstanding"},
		{"nothing", slot{phase: open, scheduled: 5, written: 5, done: 5}, 0, ""},
		{"the end", slot{phase: closing}, stats.TeardownFailed, "has not ended the connection in 2 s"},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.slot.since = 100
			if f := x.slot.checkTimeout(100+timeout-1, timeout); f != nil {
				t.Errorf("before the timeout: got fault %v, want none", f)
			}
			f := x.slot.checkTimeout(100+timeout, timeout)
			if (f == nil) != (x.wants == "") || f != nil && (f.Kind != x.kind || !strings.Contains(f.Detail, x.wants)) {
				t.Errorf("at the timeout: got %v, want %v: %s", f, x.kind, x.wants)
			}
		})
	}
}
