package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progressLine shows each point in the same line of a terminal.
func progressLine(w io.Writer) func(point) {
	return func(p point) {
		fmt.Fprintf(w, "\r\x1b[K%s /s  p50 %s  p99 %s  %s open  %s errors",
			float(p.rate), short(micro(p.p50)), short(micro(p.p99)), thousands(p.open), thousands(int(p.faults)))
	}
}

// clearLine makes room for what comes after.
func clearLine(w io.Writer) { fmt.Fprint(w, "\r\x1b[K") }

// isTerminal says whether somebody is looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// silence shows nothing.
func silence(point) {}

// minInterval keeps a progress line readable and the figures of a point meaningful.
const minInterval = 100 * time.Millisecond
