package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report holds the results of a run, and writes them as Markdown tables.
type report struct {
	scale    scale
	seed     uint64
	began    time.Time
	sections []*section
}

// section holds the results of one server.
type section struct {
	plan        *plan
	baseline    *probeStats
	limit       time.Duration
	memoryLimit int // limit of the resident memory in bytes
	rows        []row
	totals      *totals // nil if the plan ended before SIGTERM
}

// row holds the results of one fault.
type row struct {
	fault    string
	peers    int
	bytes    int // payload bytes echoed
	stats    *probeStats
	peak     int     // highest resident memory in bytes
	slowdown float64 // factor by which waiting for a CPU slowed the server
	lost     string
}

func newReport(s scale, seed uint64) *report { return &report{scale: s, seed: seed, began: time.Now()} }

func (r *report) section(p *section) *section {
	r.sections = append(r.sections, p)
	return p
}

func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`, %s form, %.0f s, %s.\n", r.command(), r.scale.name, time.Since(r.began).Seconds(), machine())
	for _, p := range r.sections {
		p.write(&b)
	}
	return b.String()
}

func (r *report) command() string {
	if r.scale == longScale {
		return fmt.Sprintf("make chaos SEED=%d", r.seed)
	}
	return fmt.Sprintf("go test ./chaos -seed %d", r.seed)
}

func (p *section) write(b *strings.Builder) {
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("\n### %s: `%s`\n", p.plan.name, strings.Join(p.plan.flags, " "))
	line("Without faults, its probes waited %v (p50), %v (p99), %v (max) for %d echoes, and woke up to %v late. Limits: a wait of %v, %s of resident memory.\n",
		round(p.baseline.P50), round(p.baseline.P99), round(p.baseline.Max), p.baseline.Messages, round(p.baseline.Late), round(p.limit), mib(p.memoryLimit))
	line("| fault | peers | echoed | lost | p50 | p99 | max | slowdown | late | resident |")
	line("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, r := range p.rows {
		if r.stats == nil {
			line("| %s | | | FAILED | | | | | | |", r.fault)
			continue
		}
		line("| %s | %d | %s | %s | %v | %v | %v | %.2f× | %v | %s |", r.fault, r.peers, mib(r.bytes), r.lost,
			round(r.stats.P50), round(r.stats.P99), round(r.stats.Max), r.slowdown, round(r.stats.Late), mib(r.peak))
	}
	if t := p.totals; t != nil {
		line("\nThe server's totals: %d accepted, %d refused at once, ended: %s; codes: %s; %d messages, %d bytes in, %d bytes out.",
			t.Accepted, t.Refused["at_once"], tally(t.Ended), tally(t.Codes), t.Messages, t.BytesIn, t.BytesOut)
	}
}

func mib(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// machine describes the date, the commit and the machine of a run.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // leaves the fields empty on error
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return fmt.Sprintf("%s, commit %s, %d cores, Linux %s, %s", time.Now().UTC().Format(time.DateOnly), bytes.TrimSpace(commit),
		runtime.NumCPU(), unix.ByteSliceToString(name.Release[:]), runtime.Version())
}

const (
	reportBegin = "<!-- written by make chaos from here -->\n"
	reportEnd   = "<!-- to here -->\n"
)

// write replaces the text between the markers of a file with the report.
func (r *report) write(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), reportBegin)
	_, after, closed := strings.Cut(rest, reportEnd)
	if !found || !closed {
		return fmt.Errorf("%s: want the markers %q and %q", path, reportBegin, reportEnd)
	}
	return os.WriteFile(path, []byte(before+reportBegin+"\n"+r.String()+"\n"+reportEnd+after), 0o644)
}
