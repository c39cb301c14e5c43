package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"wsecho/internal/flags"
)

// report is what a run has shown, as programs get it (-json). Times of messages are in
// microseconds, and those of the run in seconds; sizes are in bytes.
type report struct {
	Version     string   `json:"version"`
	Go          string   `json:"go"`
	Kernel      string   `json:"kernel"`
	CPUs        int      `json:"cpus"`
	Began       string   `json:"began"`
	URL         string   `json:"url"`
	Mode        mode     `json:"mode"`
	Loop        string   `json:"loop"`       // "closed", or "fixed rate"
	RateAsked   float64  `json:"rate_asked"` // 0: closed loop
	Payload     string   `json:"payload"`
	Type        string   `json:"type"`
	InFlight    int      `json:"in_flight"`
	Reopen      bool     `json:"reopen"`
	Connections int      `json:"connections"`
	Ramp        float64  `json:"ramp"`
	Sources     []string `json:"sources"`
	Workers     int      `json:"workers"`
	Warmup      float64  `json:"warmup_s"`
	Duration    float64  `json:"duration_s"` // measured
	Interrupted bool     `json:"interrupted"`

	Messages  uint64        `json:"messages"` // verified, in the measured time
	Rate      float64       `json:"rate"`
	Bytes     uint64        `json:"bytes"` // of their payloads
	Latency   quantiles     `json:"latency_us"`
	Handshake quantiles     `json:"handshake_us"`
	Open      int           `json:"open"` // at the end of the measured time
	Reopened  uint64        `json:"reopened"`
	Lost      uint64        `json:"lost"`   // messages that were sent, and not echoed when their connection was over
	Closes    []closeCount  `json:"closes"` // connections that the server ended
	Errors    errorCounts   `json:"errors"`
	Server    *process      `json:"server"` // null without -pid
	Generator process       `json:"generator"`
	Verdicts  []verdict     `json:"thresholds"`
	Series    []seriesPoint `json:"series"`

	distribution []hdrhistogram.Bracket
	serverGone   error // why the server's process could not be looked at until the end
}

// quantiles are of times in microseconds.
type quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

// closeCount is how many connections the server ended with a code.
type closeCount struct {
	Code        uint16 `json:"code"` // of its close frame; 1005: it had none; 1006: TCP ended without one (RFC 6455, section 7.4.1)
	Connections uint64 `json:"connections"`
	Lost        uint64 `json:"lost"` // messages on them
}

type errorCounts struct {
	Total uint64                `json:"total"`
	Kinds map[string]errorCount `json:"kinds"` // only those that there were
}

type errorCount struct {
	Count uint64 `json:"count"`
	First string `json:"first"` // what the first was
}

// process is what a process has used in the measured time.
type process struct {
	PID              int      `json:"pid"`
	CPUs             float64  `json:"cpus"`                          // in use, on average
	User             *float64 `json:"user_us_per_message,omitempty"` // nil: no messages
	System           *float64 `json:"system_us_per_message,omitempty"`
	RSS              int64    `json:"rss,omitempty"`
	RSSPerConnection float64  `json:"rss_per_connection,omitempty"` // beyond what it had before the first one
}

func (p *process) cpuPerMessage() float64 {
	if p == nil || p.User == nil {
		return 0
	}
	return *p.User + *p.System
}

// seriesPoint is an interval.
type seriesPoint struct {
	At     float64 `json:"at_s"` // its end, from the beginning of the measured time
	Rate   float64 `json:"rate"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Max    float64 `json:"max_us"`
	Open   int     `json:"open"`
	Errors uint64  `json:"errors"`      // up to then
	Server float64 `json:"server_cpus"` // in use
	Own    float64 `json:"generator_cpus"`
}

func newReport(s *settings, p *plan, out *outcome) *report {
	r := &report{
		Version: flags.BuildVersion(), Go: runtime.Version(), Kernel: kernel(), CPUs: runtime.NumCPU(), Began: p.timer.began.Format(time.RFC3339),
		URL: p.target.url, Mode: p.mode, Loop: "closed", RateAsked: p.rate.perSecond,
		Payload: s.payload.String(), Type: s.kind, InFlight: p.inFlight, Reopen: p.reopen,
		Connections: p.connections, Ramp: p.ramp.perSecond, Sources: []string{}, Workers: p.workers,
		Warmup: s.warmup.Seconds(), Duration: out.measured.Seconds(), Interrupted: out.interrupted,

		Messages: out.stats.messages, Bytes: out.stats.bytes,
		Latency: quantilesOf(out.stats.latency), Handshake: quantilesOf(out.stats.handshake),
		Open: out.open, Reopened: out.stats.reopened, Lost: out.stats.lost, Closes: countCloses(out.stats), Errors: countErrors(out.stats),
		Generator: processOf(os.Getpid(), out.own, p, out), Verdicts: []verdict{}, Series: []seriesPoint{},
		distribution: out.stats.latency.CumulativeDistributionWithTicks(10),
		serverGone:   out.serverGone,
	}
	if p.paced() {
		r.Loop = "fixed rate"
	}
	if r.Duration > 0 && p.mode != modeIdle {
		r.Rate = float64(r.Messages) / r.Duration
	}
	for _, addr := range p.sources {
		r.Sources = append(r.Sources, addr.String())
	}
	if s.pid != 0 && out.serverGone == nil && out.sampled > 0 {
		server := processOf(s.pid, out.server, p, out)
		server.RSS = out.serverRSS
		if out.open > 0 {
			server.RSSPerConnection = float64(out.server.rss) / float64(out.open)
		}
		r.Server = &server
	}
	for _, x := range out.series {
		r.Series = append(r.Series, seriesPoint{x.at.Seconds(), x.rate, micro(x.p50), micro(x.p99), micro(x.max), x.open, x.faults, x.server, x.own})
	}
	for _, t := range s.failIf {
		r.Verdicts = append(r.Verdicts, t.judge(r))
	}
	return r
}

func micro(d time.Duration) float64 { return float64(d) / 1e3 }

func quantilesOf(h *hdrhistogram.Histogram) quantiles {
	at := func(percentile float64) float64 { return float64(h.ValueAtPercentile(percentile)) / 1e3 }
	if h.TotalCount() == 0 {
		return quantiles{}
	}
	return quantiles{h.TotalCount(), h.Mean() / 1e3, at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1e3}
}

func countErrors(s *stats) errorCounts {
	counts := errorCounts{s.faultCount(), map[string]errorCount{}}
	for kind, n := range s.faults {
		if n > 0 {
			counts.Kinds[failureNames[kind]] = errorCount{n, s.examples[kind]}
		}
	}
	return counts
}

func countCloses(s *stats) []closeCount {
	counts := []closeCount{}
	for _, code := range slices.Sorted(maps.Keys(s.closes)) {
		c := s.closes[code]
		counts = append(counts, closeCount{code, c.connections, c.lost})
	}
	return counts
}

func processOf(pid int, u usage, p *plan, out *outcome) process {
	x := process{PID: pid}
	if out.sampled == 0 {
		return x // interrupted before
	}
	x.CPUs = u.cpu().Seconds() / out.sampled.Seconds()
	n := float64(out.stats.messages) * out.sampled.Seconds() / out.measured.Seconds()
	if n > 0 && p.mode != modeIdle {
		user, system := micro(u.user)/n, micro(u.system)/n
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

// shortcomings are why the figures cannot be relied on at all.
func (r *report) shortcomings() (all []error) {
	if r.Messages == 0 && r.Latency.Count == 0 {
		reason := "no message came back in the measured time"
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

// unjudgedErrors is how many errors there were, if no condition of -fail-if is on them.
func (r *report) unjudgedErrors() uint64 {
	if slices.ContainsFunc(r.Verdicts, func(v verdict) bool { return v.metric == "errors" }) {
		return 0
	}
	return r.Errors.Total
}

// write writes the report for people.
func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s\n\n", r.headline(), r.loopLine())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.rows() {
		fmt.Fprintln(t, row[0]+"\t"+row[1])
	}
	t.Flush()
	for _, v := range r.Verdicts {
		if v.Failed {
			fmt.Fprintln(w, "failed ", v)
		}
	}
	if r.Interrupted {
		fmt.Fprintln(w, "It was interrupted: the figures are of the time until then.")
	}
	if r.Generator.CPUs > 0.9*float64(min(r.Workers, r.CPUs)) && r.Mode != modeIdle {
		fmt.Fprintln(w, "The generator was busy all the time: it may have been what limited the rate (-workers).")
	}
}

func (r *report) headline() string {
	what := map[mode]string{
		modeEcho:    fmt.Sprintf("%s connections", thousands(r.Connections)),
		modeIdle:    fmt.Sprintf("%s connections that echo once and stay idle", thousands(r.Connections)),
		modeConnect: fmt.Sprintf("%s at a time are opened, echo once, and are closed", thousands(r.Connections)),
	}[r.Mode]
	payload := r.Payload
	if _, err := strconv.Atoi(payload); err == nil {
		payload += " bytes"
	}
	return fmt.Sprintf("%s: %s, %s messages of %s, %d in flight; %s after %s of warm-up",
		r.URL, what, r.Type, payload, r.InFlight, seconds(r.Duration), seconds(r.Warmup))
}

func (r *report) loopLine() string {
	switch {
	case r.Mode == modeIdle:
		return "Latency is that of each connection's one message."
	case r.Loop != "closed":
		return fmt.Sprintf("Fixed rate, %s a second: latency is from when a message was due to the end of its reply, however late it was sent.", float(r.RateAsked))
	case r.Mode == modeConnect:
		return "Closed loop: latency is from connect to the end of the echo, and the next connection is opened when one has ended."
	}
	return "Closed loop: latency is from sending a message to the end of its reply, and the next is sent then; a slow server is asked less."
}

func (r *report) rows() (rows [][2]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if r.Mode != modeIdle && r.Duration > 0 {
		add("rate", "%s /s, %s/s each way; %s replies, every byte as it was sent", float(r.Rate), bytesText(float64(r.Bytes)/r.Duration), thousands(int(r.Messages)))
	}
	add("latency", "%v", r.Latency)
	add("handshake", "%v", r.Handshake)
	if r.Mode != modeConnect {
		add("open", "%s of %s at the end", thousands(r.Open), thousands(r.Connections))
	}
	if r.Reopen {
		add("reopened", "%s times", thousands(int(r.Reopened)))
	}
	for _, c := range r.Closes {
		add("closed", "%s connections by the server, %s; %s messages on them were sent and never echoed", thousands(int(c.Connections)), codeText(c.Code), thousands(int(c.Lost)))
	}
	if r.Reopen || r.Lost > 0 {
		add("lost", "%s messages in all were sent and never echoed", thousands(int(r.Lost)))
	}
	if r.Errors.Total == 0 {
		add("errors", "none")
	}
	for kind, name := range failureNames {
		if c, some := r.Errors.Kinds[name]; some {
			add("errors", "%s %s: %s. The first: %s", thousands(int(c.Count)), name, failureMeanings[kind], c.First)
		}
	}
	if r.Server != nil {
		add("server", "%v; RSS %s, %s a connection beyond the start's", *r.Server, bytesText(float64(r.Server.RSS)), bytesText(r.Server.RSSPerConnection))
	}
	add("generator", "%v", r.Generator)
	return rows
}

func codeText(code uint16) string {
	switch code {
	case noCode:
		return "without a code (1005)"
	case noCloseFrame:
		return "without a close frame (1006)"
	}
	return fmt.Sprintf("with %d", code)
}

func (q quantiles) String() string {
	if q.Count == 0 {
		return "nothing to measure"
	}
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", short(q.P50), short(q.P90), short(q.P99), short(q.P999), short(q.Max))
}

func (p process) String() string {
	if p.User == nil {
		return fmt.Sprintf("pid %d: %.2f CPUs", p.PID, p.CPUs)
	}
	return fmt.Sprintf("pid %d: %.2f µs of CPU a message (user %.2f, system %.2f), %.2f CPUs", p.PID, p.cpuPerMessage(), *p.User, *p.System, p.CPUs)
}

// short is a time in three digits, from microseconds.
func short(us float64) string {
	d := time.Duration(us * 1e3)
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			places := 2 - int(math.Log10(float64(d)/float64(unit)))
			x := float64(d) / float64(unit)
			return fmt.Sprintf("%.*f %s", max(0, places), x, map[time.Duration]string{time.Second: "s", time.Millisecond: "ms", time.Microsecond: "µs"}[unit])
		}
	}
	return fmt.Sprintf("%d ns", d)
}

func seconds(s float64) string {
	return (time.Duration(s*1e3) * time.Millisecond).String()
}

func bytesText(b float64) string {
	for _, u := range flags.ByteUnits {
		if size := float64(u.Size); math.Abs(b) >= size && u.Size > 1 {
			return fmt.Sprintf("%.1f %s", b/size, u.Name)
		}
	}
	return fmt.Sprintf("%.0f B", b)
}

// float is a number with separators, and with digits behind the point if it is
// a small one.
func float(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.3g", x)
	}
	return thousands(int(math.Round(x)))
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
