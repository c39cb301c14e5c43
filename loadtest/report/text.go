package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"

	"wsecho/internal/format"
	"wsecho/loadtest/generate"
	"wsecho/loadtest/stats"
)

// WriteText writes the report as text.
func (r *Report) WriteText(w io.Writer) {
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
		fmt.Fprintln(w, "The run was interrupted. The figures are of the time until then.")
	}
	if r.Generator.CPUs > 0.9*float64(min(r.Workers, r.CPUs)) && r.Mode != generate.Idle {
		fmt.Fprintln(w, "The generator used all CPUs of its workers, so it may have limited the rate (-workers).")
	}
}

// headline returns the settings of the run in one sentence.
func (r *Report) headline() string {
	return fmt.Sprintf("%s; %s after %s of warm-up", loadLine(r.URL, r.Mode, r.Connections, r.Type, r.Payload, r.InFlight), seconds(r.Duration), seconds(r.Warmup))
}

// Headline returns the load in one sentence, for the time while it runs.
func (s *Subject) Headline() string {
	p := s.Plan
	return loadLine(p.Target.URL, p.Mode, p.Connections, s.Type, s.Payload, p.InFlight)
}

func loadLine(url string, mode generate.Mode, connections int, kind, payload string, inFlight int) string {
	what := map[generate.Mode]string{
		generate.Echo:    fmt.Sprintf("%s connections", format.Thousands(connections)),
		generate.Idle:    fmt.Sprintf("%s connections that echo once and stay idle", format.Thousands(connections)),
		generate.Connect: fmt.Sprintf("%s at a time are opened, echo once, and are closed", format.Thousands(connections)),
	}[mode]
	if _, err := strconv.Atoi(payload); err == nil {
		payload += " bytes"
	}
	return fmt.Sprintf("%s: %s, %s messages of %s, %d in flight", url, what, kind, payload, inFlight)
}

// loopLine returns the kind of loop and the definition of latency in this run.
func (r *Report) loopLine() string {
	switch {
	case r.Mode == generate.Idle:
		return "Latency is that of the one message of each connection."
	case r.Loop != "closed":
		return fmt.Sprintf("Fixed rate, %s per second: latency is from the time at which a message was due, even if it was sent later, to the end of its reply.", number(r.RateAsked))
	case r.Mode == generate.Connect:
		return "Closed loop: latency is from connect to the end of the echo, and the next connection is opened when one has ended."
	}
	return "Closed loop: a connection sends its next message when a reply arrives, so a slow server is sent less. Latency is from sending a message to the end of its reply."
}

// rows returns the table of the report, as pairs of name and value.
func (r *Report) rows() (rows [][2]string) {
	add := func(name, text string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(text, args...)})
	}
	if r.Mode != generate.Idle && r.Duration > 0 {
		add("rate", "%s /s, %s/s each way; %s replies, every byte as it was sent", number(r.Rate), format.Bytes(float64(r.Bytes)/r.Duration), count(r.Messages))
	}
	add("latency", "%v", r.Latency)
	add("handshake", "%v", r.Handshake)
	if r.Mode != generate.Connect {
		add("open", "%s of %s at the end", format.Thousands(r.Open), format.Thousands(r.Connections))
	}
	if r.Reopen {
		add("reopened", "%s times", count(r.Reopened))
	}
	for _, c := range r.Closes {
		add("closed", "%s connections by the server, %s; %s messages on them were sent and never echoed", count(c.Connections), codeText(c.Code), count(c.Lost))
	}
	if r.Reopen || r.Lost > 0 {
		add("lost", "%s messages in all were sent and never echoed", count(r.Lost))
	}
	if r.Errors.Total == 0 {
		add("errors", "none")
	}
	for kind := range stats.Failures {
		if c, some := r.Errors.Kinds[kind.String()]; some {
			add("errors", "%s %s: %s. The first: %s", count(c.Count), kind, kind.Meaning(), c.First)
		}
	}
	if r.Server != nil {
		add("server", "%v; RSS %s, grown by %s per connection", *r.Server, format.Bytes(r.Server.RSS), format.Bytes(r.Server.RSSPerConnection))
	}
	add("generator", "%v", r.Generator)
	return rows
}

func codeText(code uint16) string {
	switch code {
	case stats.NoCode:
		return "without a code (1005)"
	case stats.NoCloseFrame:
		return "without a close frame (1006)"
	}
	return fmt.Sprintf("with %d", code)
}

// String returns the quantiles as text.
func (q Quantiles) String() string {
	if q.Count == 0 {
		return "none measured"
	}
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", short(q.P50), short(q.P90), short(q.P99), short(q.P999), short(q.Max))
}

// String returns the usage as text.
func (p Process) String() string {
	if p.User == nil {
		return fmt.Sprintf("pid %d: %.2f CPUs", p.PID, p.CPUs)
	}
	return fmt.Sprintf("pid %d: %.2f µs of CPU per message (user %.2f, system %.2f), %.2f CPUs", p.PID, p.cpuPerMessage(), *p.User, *p.System, p.CPUs)
}

// short returns a time in microseconds as text with three digits.
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

// number returns x as text: with thousands separators, or with three digits if x is below 100.
func number(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.3g", x)
	}
	return format.Thousands(int(math.Round(x)))
}

// count returns n as text with thousands separators.
func count(n uint64) string { return format.Thousands(int64(n)) }
