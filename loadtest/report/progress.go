package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/format"
	"wsecho/loadtest/measure"
	"wsecho/loadtest/stats"
)

// A Style is the form in which the progress of a run is shown.
type Style string

// The styles of -progress.
const (
	Auto  Style = "auto"  // Live on a terminal, otherwise Plain
	Live  Style = "live"  // several lines that are drawn again and again
	Plain Style = "plain" // a line per interval
	Quiet Style = "none"
)

// closeTimeout is how long Close waits for a terminal that is stopped or does not read.
const closeTimeout = time.Second

// A Progress shows the progress of a run. It writes in its own goroutine and drops what comes too
// fast, so that a terminal that is stopped (Ctrl+S) or slow does not delay the run.
type Progress struct {
	statuses chan measure.Status
	finished chan struct{}
}

// NewProgress returns a Progress that writes to w in the given style, which may be Auto. Headline
// describes the run, and connections is the number of connections that the run opens.
func NewProgress(w io.Writer, style Style, headline string, connections int) *Progress {
	terminal := isTerminal(w)
	if style == Auto {
		switch _, isFile := w.(*os.File); {
		case terminal && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != "":
			style = Live
		case isFile:
			style = Plain
		default:
			style = Quiet
		}
	}
	p := &Progress{make(chan measure.Status, 1), make(chan struct{})}
	go func() {
		defer close(p.finished)
		switch style {
		case Live:
			v := newView(w, headline, connections)
			defer v.clear()
			resumed, stop := resumptions()
			defer stop()
			for {
				select {
				case s, ok := <-p.statuses:
					if !ok {
						return
					}
					v.draw(s)
				case <-resumed:
					v.forget()
				}
			}
		case Plain:
			var shown time.Duration // the end of the last interval that was shown
			for s := range p.statuses {
				if s.Point.At != shown && s.Phase != measure.Closing {
					fmt.Fprintln(w, line(s))
					shown = s.Point.At
				}
			}
		default:
			for range p.statuses {
			}
		}
	}()
	return p
}

// Show shows a status, unless the last one is still being written.
func (p *Progress) Show(s measure.Status) {
	select {
	case p.statuses <- s:
	default:
	}
}

// Close removes a live view. It waits for the last output, but not longer than closeTimeout.
func (p *Progress) Close() {
	close(p.statuses)
	select {
	case <-p.finished:
	case <-time.After(closeTimeout):
	}
}

// line returns a status as one line of text.
func line(s measure.Status) string {
	at := s.Phase.String()
	if s.Length > 0 {
		at += fmt.Sprintf(" %s of %s", short(micro(s.Elapsed.Round(100*time.Millisecond))), short(micro(s.Length)))
	}
	return fmt.Sprintf("%-24s %10s /s  p50 %s  p99 %s  %s open  %s",
		at, number(s.Point.Rate), latency(s.Point.P50), latency(s.Point.P99), format.Thousands(s.Point.Open), faults(s))
}

// latency returns a latency as text, or a dash if there is none.
func latency(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return short(micro(d))
}

// faults returns the errors of a status by kind.
func faults(s measure.Status) string {
	var kinds []string
	for kind, n := range s.Faults {
		if n > 0 {
			kinds = append(kinds, count(n)+" "+stats.Failure(kind).String())
		}
	}
	if kinds == nil {
		return "no errors"
	}
	return "errors: " + strings.Join(kinds, ", ")
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
