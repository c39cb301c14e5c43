package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is the table that is made of a run.
type report struct {
	scale scale
	seed  uint64
	began time.Time
	rows  []row
}

type row struct {
	scene, fault string
	connections  int
	bytes        int // echoed
	calm, said   *testimony
	limit        time.Duration
	peak         int // resident bytes
	bound        int
	failed       bool
}

func newReport(s scale, seed uint64) *report { return &report{scale: s, seed: seed, began: time.Now()} }

func (r *report) add(s *scene, fault string, connections, bytes int, said *testimony, peak int, failed bool) {
	r.rows = append(r.rows, row{s.name, fault, connections, bytes, s.calm, said, s.mostWait(), peak, s.residentBound(), failed})
}

func (r *report) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("| server | fault | connections | echoed | lost | p50 | p99 | max | undisturbed p50 / p99 / max | limit | RSS |")
	line("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, w := range r.rows {
		lost := "0"
		if w.failed {
			lost = "FAILED"
		}
		line("| %s | %s | %d | %s | %s | %s | %s | %s | %s / %s / %s | %s | %s |", w.scene, w.fault, w.connections, size(w.bytes), lost,
			ms(w.said.P50), ms(w.said.P99), ms(w.said.Max), ms(w.calm.P50), ms(w.calm.P99), ms(w.calm.Max), ms(w.limit), size(w.peak))
	}
	line("\n%s form, seed %d, %.0f s", r.scale.name, r.seed, time.Since(r.began).Seconds())
	return b.String()
}

func size(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

func numCPU() int { return runtime.NumCPU() }

func (r *report) write(path string) error {
	return os.WriteFile(path, []byte(r.text()), 0o644)
}

var _ = exec.Command
var _ = unix.Uname
