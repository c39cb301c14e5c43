// Package report turns the outcome of a run into reports: JSON, text, and an HTML page with charts.
// It also judges the conditions of -fail-if.
package report

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"wsecho/internal/flags"
	"wsecho/loadtest/generate"
	"wsecho/loadtest/measure"
	"wsecho/loadtest/stats"
)

// A Report holds the results of a run, as -json writes them. Times of messages are in microseconds,
// times of the run in seconds, and sizes in bytes.
type Report struct {
	Version     string        `json:"version"`
	Commit      string        `json:"commit"`
	Command     string        `json:"command"` // that repeats the run; secrets are left out
	Go          string        `json:"go"`
	Kernel      string        `json:"kernel"`
	CPUs        int           `json:"cpus"`
	Began       string        `json:"began"`
	URL         string        `json:"url"`
	Mode        generate.Mode `json:"mode"`
	Loop        string        `json:"loop"`       // "closed" or "fixed rate"
	RateAsked   float64       `json:"rate_asked"` // per second; 0: closed loop
	Payload     string        `json:"payload"`
	Type        string        `json:"type"`
	InFlight    int           `json:"in_flight"`
	Reopen      bool          `json:"reopen"`
	Connections int           `json:"connections"`
	Ramp        float64       `json:"ramp"`
	Sources     []string      `json:"sources"`
	Workers     int           `json:"workers"`
	Warmup      float64       `json:"warmup_s"`
	Duration    float64       `json:"duration_s"` // of the measured time
	Interrupted bool          `json:"interrupted"`

	Messages  uint64       `json:"messages"` // verified, in the measured time
	Rate      float64      `json:"rate"`     // messages per second
	Bytes     uint64       `json:"bytes"`    // of the payloads of Messages
	Latency   Quantiles    `json:"latency_us"`
	Handshake Quantiles    `json:"handshake_us"`
	Open      int          `json:"open"` // at the end of the measured time
	Reopened  uint64       `json:"reopened"`
	Lost      uint64       `json:"lost"`   // messages that were sent but not echoed before their connection ended
	Closes    []CloseCount `json:"closes"` // connections that the server ended
	Errors    ErrorCounts  `json:"errors"`
	Server    *Process     `json:"server"` // null without -pid
	Generator Process      `json:"generator"`
	Verdicts  []Verdict    `json:"thresholds"`
	Series    []Point      `json:"series"`

	settings     []Setting
	distribution []hdrhistogram.Bracket
	serverGone   error // why the server's process could not be sampled until the end
}

// Quantiles summarize a distribution of times, in microseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

// A CloseCount counts the connections that the server ended with the same code.
type CloseCount struct {
	Code        uint16 `json:"code"` // of the close frame, or stats.NoCode or stats.NoCloseFrame
	Connections uint64 `json:"connections"`
	Lost        uint64 `json:"lost"` // messages lost on these connections
}

// ErrorCounts counts the errors of a run.
type ErrorCounts struct {
	Total uint64                `json:"total"`
	Kinds map[string]ErrorCount `json:"kinds"` // by the name of the kind; only those that occurred
}

// An ErrorCount counts the errors of one kind.
type ErrorCount struct {
	Count uint64 `json:"count"`
	First string `json:"first"` // the details of the first error
}

// A Process is the usage of a process in the measured time.
type Process struct {
	PID              int      `json:"pid"`
	CPUs             float64  `json:"cpus"`                          // in use, on average
	User             *float64 `json:"user_us_per_message,omitempty"` // nil: no messages
	System           *float64 `json:"system_us_per_message,omitempty"`
	RSS              int64    `json:"rss,omitempty"`
	RSSPerConnection float64  `json:"rss_per_connection,omitempty"` // growth since before the first connection
}

// cpuPerMessage returns the CPU time per message in microseconds, or 0 if it is unknown.
func (p *Process) cpuPerMessage() float64 {
	if p == nil || p.User == nil {
		return 0
	}
	return *p.User + *p.System
}

// A Point holds the figures of an interval of the run.
type Point struct {
	At     float64 `json:"at_s"` // the end of the interval, since the beginning of the measured time
	Rate   float64 `json:"rate"` // messages per second
	P50    float64 `json:"p50_us"`
	P90    float64 `json:"p90_us"`
	P99    float64 `json:"p99_us"`
	P999   float64 `json:"p99.9_us"`
	Max    float64 `json:"max_us"`
	Open   int     `json:"open"`
	Errors uint64  `json:"errors"`      // since the beginning of the run
	Server float64 `json:"server_cpus"` // CPUs in use
	Own    float64 `json:"generator_cpus"`
}

// A Setting is a flag of the run and its value. Secrets are left out.
type Setting struct {
	Flag, Value string
	Changed     bool // it differs from the default
}

// A Subject holds the settings that a report shows.
type Subject struct {
	Command  string // that repeats the run
	Settings []Setting
	Plan     *generate.Plan
	Payload  string // sizes of the messages, as -payload has them
	Type     string // -type
	Warmup   time.Duration
	PID      int // the server's process; 0: unknown
	FailIf   []Threshold
}

// New returns the report of a run.
func New(s Subject, out *measure.Outcome) *Report {
	p, counts := s.Plan, out.Counts
	version, commit := flags.Build()
	r := &Report{
		Version: version, Commit: commit, Command: s.Command, Go: runtime.Version(), Kernel: kernel(), CPUs: runtime.NumCPU(), Began: p.Clock.Began().Format(time.RFC3339),
		URL: p.Target.URL, Mode: p.Mode, Loop: "closed", RateAsked: p.Rate.PerSecond,
		Payload: s.Payload, Type: s.Type, InFlight: p.InFlight, Reopen: p.Reopen,
		Connections: p.Connections, Ramp: p.Ramp.PerSecond, Sources: []string{}, Workers: p.Workers,
		Warmup: s.Warmup.Seconds(), Duration: out.Measured.Seconds(), Interrupted: out.Interrupted,

		Messages: counts.Messages, Bytes: counts.Bytes,
		Latency: quantilesOf(counts.Latency), Handshake: quantilesOf(counts.Handshake),
		Open: out.Open, Reopened: counts.Reopened, Lost: counts.Lost, Closes: countCloses(counts), Errors: countErrors(counts),
		Generator: processOf(os.Getpid(), out.Own, p.Mode, out), Verdicts: []Verdict{}, Series: []Point{},
		settings: s.Settings, distribution: counts.Latency.CumulativeDistributionWithTicks(10),
		serverGone: out.ServerGone,
	}
	if p.Paced() {
		r.Loop = "fixed rate"
	}
	if r.Duration > 0 && p.Mode != generate.Idle {
		r.Rate = float64(r.Messages) / r.Duration
	}
	for _, addr := range p.Sources {
		r.Sources = append(r.Sources, addr.String())
	}
	if s.PID != 0 && out.ServerGone == nil && out.Sampled > 0 {
		server := processOf(s.PID, out.Server, p.Mode, out)
		server.RSS = out.ServerRSS
		if out.Open > 0 {
			server.RSSPerConnection = float64(out.Server.RSS) / float64(out.Open)
		}
		r.Server = &server
	}
	for _, x := range out.Series {
		r.Series = append(r.Series, Point{x.At.Seconds(), x.Rate, micro(x.P50), micro(x.P90), micro(x.P99), micro(x.P999), micro(x.Max), x.Open, x.Faults, x.Server, x.Own})
	}
	for _, t := range s.FailIf {
		r.Verdicts = append(r.Verdicts, t.judge(r))
	}
	return r
}

func micro(d time.Duration) float64 { return float64(d) / 1e3 }

func quantilesOf(h *hdrhistogram.Histogram) Quantiles {
	at := func(percentile float64) float64 { return float64(h.ValueAtPercentile(percentile)) / 1e3 }
	if h.TotalCount() == 0 {
		return Quantiles{}
	}
	return Quantiles{h.TotalCount(), h.Mean() / 1e3, at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1e3}
}

func countErrors(c *stats.Counts) ErrorCounts {
	counts := ErrorCounts{c.FaultCount(), map[string]ErrorCount{}}
	for kind, n := range c.Faults {
		if n > 0 {
			counts.Kinds[stats.Failure(kind).String()] = ErrorCount{n, c.Examples[kind]}
		}
	}
	return counts
}

func countCloses(c *stats.Counts) []CloseCount {
	counts := []CloseCount{}
	for _, code := range slices.Sorted(maps.Keys(c.Closes)) {
		closes := c.Closes[code]
		counts = append(counts, CloseCount{code, closes.Connections, closes.Lost})
	}
	return counts
}

func processOf(pid int, u measure.Usage, mode generate.Mode, out *measure.Outcome) Process {
	x := Process{PID: pid}
	if out.Sampled == 0 {
		return x // interrupted before the measured time
	}
	x.CPUs = u.CPU().Seconds() / out.Sampled.Seconds()
	n := float64(out.Counts.Messages) * out.Sampled.Seconds() / out.Measured.Seconds()
	if n > 0 && mode != generate.Idle {
		user, system := micro(u.User)/n, micro(u.System)/n
		x.User, x.System = &user, &system
	}
	return x
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}

// Problems returns the reasons why the report is not usable, other than counted errors.
func (r *Report) Problems() (all []error) {
	if r.Messages == 0 && r.Latency.Count == 0 {
		reason := "no message was echoed in the measured time"
		if r.Interrupted {
			reason += ", which was interrupted"
		}
		all = append(all, errors.New("nothing was measured: "+reason))
	}
	if r.serverGone != nil {
		all = append(all, fmt.Errorf("-pid: the server's process has ended: %w", r.serverGone))
	}
	return all
}

// UnjudgedErrors returns the number of errors, or 0 if a condition of -fail-if is on errors.
func (r *Report) UnjudgedErrors() uint64 {
	if slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.metric == "errors" }) {
		return 0
	}
	return r.Errors.Total
}
