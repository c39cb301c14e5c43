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

// report is what a run has found, as tables in Markdown.
type report struct {
	scale scale
	seed  uint64
	began time.Time
	parts []*part
}

// part is what was done to one server.
type part struct {
	plan   *plan
	calm   *testimony
	limit  time.Duration
	bound  int // bytes
	rows   []row
	totals *totals // nil if it did not come to them
}

// row is one fault.
type row struct {
	fault  string
	peers  int
	bytes  int // echoed
	said   *testimony
	peak   int     // resident bytes
	slowed float64 // how many times, by waiting for a processor
	lost   string
}

func newReport(s scale, seed uint64) *report { return &report{scale: s, seed: seed, began: time.Now()} }

func (r *report) part(p *part) *part {
	r.parts = append(r.parts, p)
	return p
}

func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`, %s form, %.0f s, %s.\n", r.command(), r.scale.name, time.Since(r.began).Seconds(), machine())
	for _, p := range r.parts {
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

func (p *part) write(b *strings.Builder) {
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("\n### %s: `%s`\n", p.plan.name, strings.Join(p.plan.flags, " "))
	line("Undisturbed, its witnesses waited %v (p50), %v (p99), %v (most) for %d echoes, and were woken up to %v late. The limit is %v. Its memory may be %s.\n",
		round(p.calm.P50), round(p.calm.P99), round(p.calm.Max), p.calm.Messages, round(p.calm.Late), round(p.limit), mib(p.bound))
	line("| fault | peers | echoed | lost | p50 | p99 | most | slowed | late | resident |")
	line("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, r := range p.rows {
		if r.said == nil {
			line("| %s | | | FAILED | | | | | | |", r.fault)
			continue
		}
		line("| %s | %d | %s | %s | %v | %v | %v | %.2f× | %v | %s |", r.fault, r.peers, mib(r.bytes), r.lost,
			round(r.said.P50), round(r.said.P99), round(r.said.Max), r.slowed, round(r.said.Late), mib(r.peak))
	}
	if t := p.totals; t != nil {
		line("\nBy its own account: %d accepted, %d refused at once, ended: %s; codes: %s; %d messages, %d bytes in, %d bytes out.",
			t.Accepted, t.Refused["at_once"], tally(t.Ended), tally(t.Codes), t.Messages, t.BytesIn, t.BytesOut)
	}
}

func mib(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// machine says on what was measured, and what.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // its fields are empty then
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

// write puts the report into a file between its markers.
func (r *report) write(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), reportBegin)
	_, after, closed := strings.Cut(rest, reportEnd)
	if !found || !closed {
		return fmt.Errorf("%s has no %q and %q", path, reportBegin, reportEnd)
	}
	return os.WriteFile(path, []byte(before+reportBegin+"\n"+r.String()+"\n"+reportEnd+after), 0o644)
}
