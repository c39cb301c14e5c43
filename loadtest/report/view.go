package report

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"wsecho/internal/format"
	"wsecho/loadtest/measure"
)

// A view is the live view of a run: a few lines at the cursor of a terminal, which are drawn again
// after each interval. It uses no colours and no alternate screen, so the report follows it in the
// scrollback. One goroutine uses it.
type view struct {
	w           io.Writer
	headline    string
	connections int
	rates, p99s []float64 // of the last intervals in which messages were echoed
	lines       []string  // that are on the terminal
	size        func() (columns, rows int)
}

// Control sequences of terminals (ECMA-48, section 8.3).
const (
	eraseBelow = "\x1b[J"   // from the cursor to the end of the screen
	upLines    = "\x1b[%dA" // moves the cursor
)

// longestChart is the maximum number of intervals in a chart.
const longestChart = 60

func newView(w io.Writer, headline string, connections int) *view {
	return &view{w: w, headline: headline, connections: connections, size: func() (int, int) { return terminalSize(w) }}
}

// draw replaces the view by that of a status.
func (v *view) draw(s measure.Status) {
	if s.Point.Rate > 0 && s.Point.P50 > 0 {
		v.rates = last(append(v.rates, s.Point.Rate), longestChart)
		v.p99s = last(append(v.p99s, float64(s.Point.P99)), longestChart)
	}
	columns, rows := v.size()
	lines := v.render(s, columns-1)
	if len(lines) > rows-1 {
		lines = lines[:max(0, rows-1)]
	}
	frame := v.toTop(columns) + eraseBelow
	for _, l := range lines {
		frame += l + "\n"
	}
	fmt.Fprint(v.w, frame)
	v.lines = lines
}

// clear removes the view from the terminal.
func (v *view) clear() {
	columns, _ := v.size()
	fmt.Fprint(v.w, v.toTop(columns)+eraseBelow)
	v.lines = nil
}

// forget makes the next draw begin at the cursor, because other programs have used the terminal.
func (v *view) forget() { v.lines = nil }

// toTop returns the sequence that moves the cursor to the first row of the view. If the terminal
// has become narrower, it has broken the lines into several rows.
func (v *view) toTop(columns int) string {
	rows := 0
	for _, l := range v.lines {
		rows += max(1, (utf8.RuneCountInString(l)+columns-1)/columns)
	}
	if rows == 0 {
		return "\r"
	}
	return "\r" + fmt.Sprintf(upLines, rows)
}

// render returns the lines of a status, each at most width characters long.
func (v *view) render(s measure.Status, width int) []string {
	const names = 10
	p := s.Point
	row := func(name, text string, args ...any) string {
		return fmt.Sprintf("%-*s", names, name) + fmt.Sprintf(text, args...)
	}
	lines := []string{v.headline, row(s.Phase.String(), " %s", bar(s, max(10, min(40, width-names-24))))}
	rate, quantiles := row("rate", " %s /s", number(p.Rate)), row("latency", " p50 %s  p99 %s  max %s", latency(p.P50), latency(p.P99), latency(p.Max))
	if s.P50 > 0 {
		rate += fmt.Sprintf(", %s /s on average", number(s.Rate))
		quantiles += fmt.Sprintf("; so far p50 %s  p99 %s", latency(s.P50), latency(s.P99))
	}
	lines = append(lines, rate, quantiles,
		row("open", " %s of %s", format.Thousands(p.Open), format.Thousands(v.connections)),
		row("errors", " %s", strings.TrimPrefix(strings.Replace(faults(s), "no errors", "none", 1), "errors: ")))
	if room := width - names - 1; len(v.rates) > 1 && room > 0 {
		lines = append(lines,
			row("rate", " %s", chart(last(v.rates, room))),
			row("p99", " %s", chart(last(v.p99s, room))))
	}
	for i, l := range lines {
		lines[i] = cut(l, width)
	}
	return lines
}

// bar returns the progress of the phase as a bar and as text.
func bar(s measure.Status, width int) string {
	if s.Length == 0 {
		return short(micro(s.Elapsed.Round(100 * time.Millisecond)))
	}
	full := int(float64(width) * float64(s.Elapsed) / float64(s.Length))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full) +
		fmt.Sprintf(" %s of %s", s.Elapsed.Round(100*time.Millisecond), s.Length)
}

// chart returns values as a row of blocks, whose height is proportional to the value.
func chart(values []float64) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	most := 0.0
	for _, x := range values {
		most = max(most, x)
	}
	var b strings.Builder
	for _, x := range values {
		b.WriteRune(blocks[min(len(blocks)-1, int(x/most*float64(len(blocks))))])
	}
	return b.String()
}

// last returns the last n of values, or all.
func last(values []float64, n int) []float64 { return values[max(0, len(values)-n):] }

// cut shortens a line to width characters.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	if width < 1 {
		return ""
	}
	return string([]rune(line)[:width-1]) + "…"
}

// terminalSize returns the size of a terminal, or that of a usual one if w has none.
func terminalSize(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
			return int(size.Col), int(size.Row)
		}
	}
	return 80, 24
}

// resumptions returns a channel that receives after the process was stopped (Ctrl+Z) and continues,
// and a function that ends this.
func resumptions() (resumed <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCONT)
	return c, func() { signal.Stop(c) }
}
