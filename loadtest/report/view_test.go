package report

import (
	"strings"
	"testing"
	"time"

	"wsecho/loadtest/measure"
	"wsecho/loadtest/stats"
)

// screen returns a view on a terminal of the given width, and what it writes.
func screen(columns *int) (*view, *strings.Builder) {
	var out strings.Builder
	v := newView(&out, "the headline", 10)
	v.size = func() (int, int) { return *columns, 24 }
	return v, &out
}

// drawn returns what the view writes for a status.
func drawn(v *view, out *strings.Builder, s measure.Status) string {
	out.Reset()
	v.draw(s)
	return out.String()
}

// If the terminal becomes narrower, it breaks the lines of the view, and the next frame begins so
// many rows higher.
func TestViewAfterResize(t *testing.T) {
	columns := 80
	v, out := screen(&columns)
	s := measure.Status{Phase: measure.Opening}
	if got := drawn(v, out, s); !strings.HasPrefix(got, "\r"+eraseBelow+"the headline\n") {
		t.Errorf("the first frame is %q, want it at the cursor", got)
	}
	if got := drawn(v, out, s); !strings.HasPrefix(got, "\r\x1b[6A"+eraseBelow) {
		t.Errorf("the second frame is %q, want it 6 lines higher", got)
	}
	columns = 11 // the headline takes two rows, and so do five others
	rows := 0
	for _, l := range v.lines {
		rows += (len([]rune(l)) + 10) / 11
	}
	if got := drawn(v, out, s); !strings.HasPrefix(got, "\r\x1b["+string(rune('0'+rows/10))+string(rune('0'+rows%10))+"A"+eraseBelow) {
		t.Errorf("the frame after the change is %q, want it %d rows higher", got, rows)
	}
	v.forget()
	if got := drawn(v, out, s); !strings.HasPrefix(got, "\r"+eraseBelow) {
		t.Errorf("the frame after other output is %q, want it at the cursor", got)
	}
}

func TestViewShowsErrorsByKind(t *testing.T) {
	columns := 100
	v, out := screen(&columns)
	s := measure.Status{Phase: measure.Measuring, Elapsed: 1500 * time.Millisecond, Length: 3 * time.Second}
	s.Faults[stats.TimedOut], s.Faults[stats.ConnectFailed] = 2, 1234
	got := drawn(v, out, s)
	if !strings.Contains(got, "\nerrors     1,234 connect, 2 timeout\n") {
		t.Errorf("got %q, want the errors by kind", got)
	}
	if !strings.Contains(got, "\nmeasuring  "+strings.Repeat("█", 20)+strings.Repeat("░", 20)+" 1.5s of 3s\n") {
		t.Errorf("got %q, want a half-full bar", got)
	}
}

func TestChart(t *testing.T) {
	if got := chart([]float64{0.1, 1, 2, 4, 7.9, 8}); got != "▁▂▃▅██" {
		t.Errorf("got %s", got)
	}
}
