package report

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"wsecho/internal/format"
	"wsecho/loadtest/measure"
)

const clearLine = "\r\x1b[K"

// Progress returns a function that shows a point on the progress line of a terminal, and a function
// that clears the line. If w is not a terminal, both do nothing.
func Progress(w io.Writer) (show func(measure.Point), clear func()) {
	if !isTerminal(w) {
		return func(measure.Point) {}, func() {}
	}
	show = func(p measure.Point) {
		fmt.Fprintf(w, clearLine+"%s /s  p50 %s  p99 %s  %s open  %s errors",
			number(p.Rate), short(micro(p.P50)), short(micro(p.P99)), format.Thousands(p.Open), count(p.Faults))
	}
	return show, func() { fmt.Fprint(w, clearLine) }
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
