package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"wsecho/internal/flags"
	"wsecho/loadtest/generate"
	"wsecho/loadtest/measure"
	"wsecho/loadtest/report"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// settings holds the values of the flags, from the command line or the environment.
type settings struct {
	url         string
	mode        string
	header      headerFields
	subprotocol subprotocols
	greeting    int
	connections int
	ramp        float64
	handshakes  int
	sources     sourceList
	payload     payloadMix
	kind        string
	inFlight    int
	rate        float64
	reopen      bool
	leave       bool
	paused      string
	duration    time.Duration
	warmup      time.Duration
	timeout     time.Duration
	interval    time.Duration
	workers     int
	pid         int
	json        bool
	html        string
	progress    string
	failIf      thresholds
	version     bool

	flags *flag.FlagSet
}

const (
	envPrefix = "WSLOAD"

	mostConnections = 4 << 20
	mostInFlight    = 4096
	mostWeight      = 1000 // sum of the weights of a mix
	mostGreetings   = 100
	longest         = 30 * 24 * time.Hour

	// minInterval keeps the progress readable and gives each point enough messages.
	minInterval = 100 * time.Millisecond
)

// parse returns the settings. Its errors name the flag or variable, its value and the reason, and
// never contain a password.
func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	s.flags = fs
	err := s.parse(fs, args)
	if err == nil {
		err = s.check()
	}
	if err != nil && generate.Redact(err.Error()) != err.Error() {
		err = errors.New(generate.Redact(err.Error()))
	}
	return s, err
}

// parse sets the flags. The URL may also be given as an argument, anywhere among the flags.
func (s *settings) parse(fs *flag.FlagSet, args []string) error {
	arguments, err := flags.Arguments(fs, joinGreeting(args))
	if err != nil {
		return err
	}
	if len(arguments) > 0 {
		given := false
		fs.Visit(func(f *flag.Flag) { given = given || f.Name == "url" })
		switch {
		case len(arguments) > 1:
			return fmt.Errorf("unexpected argument %q: the only argument is the server's URL", arguments[1])
		case given:
			return fmt.Errorf("unexpected argument %q: the URL is also given by -url", arguments[0])
		}
		if err := fs.Set("url", arguments[0]); err != nil { // takes precedence over WSLOAD_URL, like any flag
			return fmt.Errorf("argument %w", err)
		}
	}
	return flags.Parse(fs, nil, envPrefix)
}

// joinGreeting joins -greeting and a number that follows it into one argument. Since -greeting is
// also valid without a value, the flag package would not take the next argument as its value.
func joinGreeting(args []string) (joined []string) {
	for _, arg := range args {
		last := len(joined) - 1
		_, err := strconv.Atoi(arg)
		if err == nil && last >= 0 && (joined[last] == "-greeting" || joined[last] == "--greeting") {
			joined[last] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("wsload")

	flags.Var(fs, &s.url, "url", "ws://127.0.0.1:8080/", checkURL,
		"`URL` of the server, ws://host:port/path; may also be given as the argument. All addresses of a host name are tried in turn. A user name and password in the URL are sent as Basic authorization and appear in no report")
	s.header.set(fs, "header",
		"header `field` of the opening request, 'Name: value'; may be repeated. Host replaces the host of the URL. Fields that wsload sets itself are refused")
	flags.Var(fs, &s.subprotocol, "subprotocol", nil, parseSubprotocols,
		"comma-separated `list` of subprotocols to offer. The server may choose one of them or none")
	fs.Var(&greetingFlag{&s.greeting}, "greeting",
		"`number` of messages that the server sends on each connection before the first echo; -greeting alone means 1. wsload sends no message until they have arrived")
	flags.Var(fs, &s.mode, "mode", string(generate.Echo), flags.Word(string(generate.Echo), string(generate.Idle), string(generate.Connect)),
		"mode of the connections, `echo|idle|connect`: echo sends messages and compares the replies until the end of -duration; idle echoes one message and then stays silent, to measure memory; connect opens a connection, echoes one message, closes the connection, and repeats")
	flags.Var(fs, &s.connections, "connections", 100, flags.Int(1, mostConnections),
		"`number` of connections; in mode connect, the number open at a time")
	flags.Var(fs, &s.ramp, "ramp", 0, parseNumber(0, 1e7),
		"connections to open `per second`. 0: as fast as -handshakes allows")
	flags.Var(fs, &s.handshakes, "handshakes", 128, flags.Int(1, mostConnections),
		"maximum `number` of outstanding handshakes. If it exceeds the server's listen queue, some connections are delayed by 1s or more")
	flags.Var(fs, &s.sources, "source", nil, parseSourceList,
		"local `addresses` to connect from, used in turn: a comma-separated list, or the number of addresses from 127.0.0.1 on. Each has about 28000 ports for one server address. None: the kernel chooses")
	flags.Var(fs, &s.payload, "payload", payloadMix{{Size: 128, Weight: 1}}, parseMix,
		"length of messages in `bytes`, or a mix of lengths with weights, such as 128:90,64KiB:10")
	flags.Var(fs, &s.kind, "type", string(wire.Binary), flags.Word(string(wire.Binary), string(wire.Text), string(wire.Unicode)),
		"kind of messages, `binary|text|unicode`: binary (random bytes), text (ASCII) or unicode (text of characters that are one to four bytes long)")
	flags.Var(fs, &s.inFlight, "inflight", 1, flags.Int(1, mostInFlight),
		"maximum `number` of outstanding messages per connection: sent, but not yet echoed")
	flags.Var(fs, &s.rate, "rate", 0, parseNumber(0, 1e9),
		"messages to send `per second` on all connections together, whether or not replies have arrived; in mode connect, connections to open. Latency is then measured from the time at which a message was due. 0: closed loop, a connection sends its next message when a reply arrives")
	fs.BoolVar(&s.reopen, "reopen", false,
		"reopen connections that the server closes or loses: at once, then after pauses of up to 1s. Close codes 1001 and 1012 are no errors then. At a fixed rate, messages that become due meanwhile are sent when the connection is open again. Messages that were sent but not echoed are counted as lost")
	fs.BoolVar(&s.leave, "leave", false,
		"at the end, close TCP without the close handshake, as clients that disconnect abruptly do, and only after the report is written. This saves time with a million connections")
	flags.Var(fs, &s.duration, "duration", 10*time.Second, flags.Duration(time.Millisecond, longest),
		"`time` to measure")
	flags.Var(fs, &s.warmup, "warmup", time.Second, flags.Duration(0, longest),
		"`time` to run before measuring, once all connections are open")
	flags.Var(fs, &s.timeout, "timeout", 10*time.Second, flags.Duration(time.Millisecond, longest),
		"`time` to wait for a handshake, for the next bytes while a reply is outstanding, and for the end of a connection")
	flags.Var(fs, &s.workers, "workers", max(1, runtime.GOMAXPROCS(0)/2), flags.Int(1, 4096),
		"`number` of event loops; the default is half of the CPUs that the process may use, which leaves the other half to the server")
	flags.Var(fs, &s.pid, "pid", 0, flags.Int(0, math.MaxInt32),
		"process `ID` of the server, to report its CPU time per message and its resident memory per connection. 0: not reported")
	flags.Var(fs, &s.interval, "interval", time.Second, flags.Duration(minInterval, time.Hour),
		"`time` between two updates of the progress, and between two points of the time series")
	flags.Var(fs, &s.paused, "paused", "", flags.Text,
		"`file` holding a native-endian int64: the total nanoseconds during which this process was stopped (SIGSTOP), updated before it continues (SIGCONT). This time is excluded from all timings, and messages outstanding during it are excluded from the latencies. make bench uses this to measure servers in turn. None: all time counts")
	fs.BoolVar(&s.json, "json", false, "write the report to stdout as JSON instead of text")
	flags.Var(fs, &s.html, "html", "", flags.Text,
		"`file` to write a self-contained HTML report with charts to")
	flags.Var(fs, &s.progress, "progress", string(report.Auto), flags.Word(string(report.Auto), string(report.Live), string(report.Plain), string(report.Quiet)),
		"progress on stderr, `auto|live|plain|none`: live is a view that is drawn again after each -interval, plain a line per -interval; auto is live on a terminal and otherwise plain")
	s.failIf.set(fs, "fail-if",
		"`condition` under which the exit status is 3, such as p99>5ms; may be repeated, or be a comma-separated list. A metric that was not measured also gives status 3. Metrics: p50, p90, p99, p99.9, max (times), errors, rate (per second), open (connections), lost (messages), cpu (time of the server per message), rss (bytes of the server per connection). Operators: < <= > >=")
	flags.Version(fs, &s.version)
	return s, fs
}

// check returns an error if the flags contradict each other.
func (s *settings) check() error {
	switch {
	case s.mode == string(generate.Idle) && s.rate > 0:
		return fmt.Errorf("-rate %v: mode idle sends no messages at a rate (-mode)", s.rate)
	case s.mode != string(generate.Echo) && s.inFlight > 1:
		return fmt.Errorf("-inflight %d: a connection sends only one message in mode %s (-mode)", s.inFlight, s.mode)
	case s.connections*s.inFlight > 1<<28:
		return fmt.Errorf("-inflight %d: with -connections %d, more than the limit of %d messages could be outstanding", s.inFlight, s.connections, 1<<28)
	}
	hosts, authorizations := 0, 0
	for _, f := range s.header {
		switch {
		case strings.EqualFold(f.Name, "Host"):
			hosts++
		case strings.EqualFold(f.Name, "Authorization"):
			authorizations++
		}
	}
	u, err := generate.ParseURL(s.url)
	switch {
	case err != nil:
		return fmt.Errorf("-url %q: %w", s.url, err)
	case hosts > 1:
		return errors.New("-header Host is given twice")
	case authorizations > 1 || authorizations > 0 && u.User != nil:
		return errors.New("-header Authorization is given twice, or a user name and password are in the URL as well")
	}
	if _, err := wire.RequestHead(u, s.header, s.subprotocol); err != nil {
		return fmt.Errorf("-url, -header and -subprotocol: %w", err)
	}
	for _, t := range s.failIf {
		if s.mode == string(generate.Idle) && (t.Metric == "rate" || t.Metric == "cpu") {
			return fmt.Errorf("-fail-if %q: %s is not measured in mode idle", t, t.Metric)
		}
		if s.pid == 0 && (t.Metric == "cpu" || t.Metric == "rss") {
			return fmt.Errorf("-fail-if %q: %s is measured only with -pid", t, t.Metric)
		}
	}
	return nil
}

// plan returns the plan of the run. Addrs are the server's addresses.
func (s *settings) plan(addrs []netip.AddrPort) (*generate.Plan, error) {
	u, err := generate.ParseURL(s.url)
	if err != nil {
		return nil, err
	}
	head, err := wire.RequestHead(u, s.header, s.subprotocol)
	if err != nil {
		return nil, err
	}
	u.User = nil
	workers := min(s.workers, s.connections)
	var stopped *atomic.Int64
	if s.paused != "" {
		if stopped, err = generate.StoppedTime(s.paused); err != nil {
			return nil, fmt.Errorf("-paused %s: %w", s.paused, err)
		}
	}
	return &generate.Plan{
		Mode:         generate.Mode(s.mode),
		Target:       generate.Target{URL: u.String(), Addrs: addrs},
		RequestHead:  head,
		Subprotocols: s.subprotocol,
		Greetings:    uint8(s.greeting),
		Sources:      s.sources,
		Connections:  s.connections,
		Workers:      workers,
		Handshakes:   max(1, s.handshakes/workers),
		Ramp:         generate.Pace{PerSecond: s.ramp},
		Rate:         generate.Pace{PerSecond: s.rate},
		InFlight:     s.inFlight,
		Reopen:       s.reopen,
		Leave:        s.leave,
		Payloads:     wire.NewPayloadSet(s.payload, wire.PayloadKind(s.kind), s.inFlight),
		Timeout:      s.timeout,
		Clock:        generate.NewClock(stopped),
	}, nil
}

func (s *settings) schedule() measure.Schedule {
	return measure.Schedule{Warmup: s.warmup, Duration: s.duration, Interval: s.interval, PID: s.pid}
}

// subject returns the settings that the report of a plan shows.
func (s *settings) subject(p *generate.Plan) report.Subject {
	command, all := s.repeated(p.Target.URL)
	return report.Subject{Command: command, Settings: all, Plan: p, Payload: s.payload.String(), Type: s.kind, Warmup: s.warmup, PID: s.pid, FailIf: s.failIf}
}

// repeated returns the command that repeats the run with the URL, and all settings. The URL has no
// user information. Both leave out the values of header fields, which may be secrets.
func (s *settings) repeated(url string) (command string, all []report.Setting) {
	command = "wsload"
	s.flags.VisitAll(func(f *flag.Flag) {
		value := f.Value.String()
		x := report.Setting{Flag: "-" + f.Name, Value: value, Changed: value != f.DefValue}
		switch f.Name {
		case "version":
			return
		case "url":
			x.Value = url
		case "header":
			x.Value = ""
			for _, field := range s.header {
				x.Value += field.Name + ": … "
			}
			x.Value = strings.TrimSpace(x.Value)
		}
		all = append(all, x)
		if x.Changed && f.Name != "url" {
			command += " " + x.Flag + "=" + quoted(x.Value)
		}
	})
	return command + " " + quoted(url), all
}

// quoted returns text as one word of a shell's command line.
func quoted(text string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:,=@%+", r)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// help writes the output of -h.
func help(w io.Writer) {
	fmt.Fprint(w, `wsload measures a WebSocket echo server: it sends messages on many connections, compares every
byte of the replies, and reports rates, latencies and errors.

usage: wsload [flags] [URL]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
Each flag can be set by the environment variable beside it instead. Sizes are in bytes, or have
the unit KiB, MiB or GiB; times are written 300us, 5ms, 10s or 1h30m.

Errors are counted by kind, with the details of the first of each. An error ends its connection:
`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for kind := range stats.Failures {
		fmt.Fprintf(t, "  %s\t%s\n", kind, kind.Meaning())
	}
	t.Flush()
	fmt.Fprint(w, `
The report is written to stdout, and the progress to stderr (-progress). SIGINT, SIGTERM and SIGHUP
end the measurement early; a second signal ends wsload at once, without a
report. The exit status is:
  0  messages were measured, there was no error, and all reports were written
  1  nothing was measured, a report could not be written, or there were errors
  2  a flag is invalid
  3  a condition of -fail-if holds, or its metric was not measured

If a condition is on errors, it alone decides how many errors are allowed.
`)
}

// checkURL checks a URL without resolving its host name.
func checkURL(text string) (string, error) {
	_, err := generate.ParseURL(text)
	return text, err
}

// headerFields is the value of a flag that may be repeated.
type headerFields []wire.Field

func (l *headerFields) set(fs *flag.FlagSet, name, usage string) {
	flags.Var(fs, l, name, nil, func(text string) (headerFields, error) {
		f, err := wire.ParseField(text)
		return append(slices.Clone(*l), f), err
	}, usage)
}

func (l headerFields) String() string {
	var items []string
	for _, f := range l {
		items = append(items, f.Name+": "+f.Value)
	}
	return strings.Join(items, "\n")
}

// subprotocols is a list of distinct tokens (RFC 6455, section 4.1, item 10).
type subprotocols []string

func parseSubprotocols(text string) (subprotocols, error) {
	if text == "" {
		return nil, nil
	}
	items, err := flags.Split(text)
	for i, item := range items {
		switch {
		case !wire.IsToken(item):
			return nil, fmt.Errorf("has a member %q that is not a token (RFC 9110, section 5.6.2)", item)
		case slices.Contains(items[:i], item):
			return nil, fmt.Errorf("has %q twice", item)
		}
	}
	return items, err
}

func (l subprotocols) String() string { return strings.Join(l, ",") }

// greetingFlag is the value of a flag whose number may be omitted, which means 1.
type greetingFlag struct{ n *int }

func (f *greetingFlag) IsBoolFlag() bool { return true }

func (f *greetingFlag) Set(text string) (err error) {
	switch text {
	case "true":
		text = "1"
	case "false":
		text = "0"
	}
	if *f.n, err = flags.Int(0, mostGreetings)(text); err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	return nil
}

func (f *greetingFlag) String() string {
	if f.n == nil {
		return ""
	}
	return strconv.Itoa(*f.n)
}

func parseNumber(least, most float64) func(string) (float64, error) {
	return func(text string) (float64, error) {
		x, err := strconv.ParseFloat(strings.TrimSuffix(text, "/s"), 64)
		if err != nil || math.IsNaN(x) {
			return 0, errors.New("is not a number")
		}
		return x, flags.Between(x, least, most)
	}
}

// payloadMix holds the lengths of messages and their weights.
type payloadMix []wire.Portion

func parseMix(text string) (mix payloadMix, err error) {
	items, err := flags.Split(text)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, item := range items {
		length, weightText, mixed := strings.Cut(item, ":")
		if !mixed {
			weightText = "1"
		}
		size, err := flags.Size(0, wire.LongestPayload)(length)
		if err != nil {
			return nil, fmt.Errorf("has a length %q that %w", length, err)
		}
		weight, err := flags.Int(1, mostWeight)(weightText)
		if err != nil {
			return nil, fmt.Errorf("has a weight %q that %w", weightText, err)
		}
		mix = append(mix, wire.Portion{Size: int(size), Weight: weight})
		total += weight
	}
	if total > mostWeight {
		return nil, fmt.Errorf("has weights of %d in total, the limit is %d", total, mostWeight)
	}
	return mix, nil
}

func (m payloadMix) String() string {
	if len(m) == 1 {
		return flags.ByteSize(m[0].Size).String()
	}
	var items []string
	for _, p := range m {
		items = append(items, fmt.Sprintf("%v:%d", flags.ByteSize(p.Size), p.Weight))
	}
	return strings.Join(items, ",")
}

type sourceList []netip.Addr

func parseSourceList(text string) (sourceList, error) {
	if text == "" {
		return nil, nil
	}
	items, err := flags.Split(text)
	if err != nil {
		return nil, err
	}
	return generate.ParseSources(items)
}

func (l sourceList) String() string {
	var items []string
	for _, addr := range l {
		items = append(items, addr.String())
	}
	return strings.Join(items, ",")
}

// thresholds is the value of a flag that may be repeated.
type thresholds []report.Threshold

func (l *thresholds) set(fs *flag.FlagSet, name, usage string) {
	flags.Var(fs, l, name, nil, func(text string) (thresholds, error) {
		sum := *l
		items, err := flags.Split(text)
		for _, item := range items {
			t, err := report.ParseThreshold(item)
			if err != nil {
				return nil, err
			}
			sum = append(sum, t)
		}
		return sum, err
	}, usage)
}

func (l thresholds) String() string {
	var items []string
	for _, t := range l {
		items = append(items, t.String())
	}
	return strings.Join(items, ",")
}
