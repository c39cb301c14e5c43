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

// settings are the values of the flags, from the command line or the environment.
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
	failIf      thresholds
	version     bool
}

const (
	envPrefix = "WSLOAD"

	mostConnections = 4 << 20
	mostInFlight    = 4096
	mostWeight      = 1000 // of a mix, in all
	mostGreetings   = 100
	longest         = 30 * 24 * time.Hour

	// minInterval keeps the progress line readable and the figures of a point meaningful.
	minInterval = 100 * time.Millisecond
)

// parse returns the settings. Its errors name the flag or variable, its value, and the cause. They
// contain no password.
func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	err := s.parse(fs, args)
	if err == nil {
		err = s.check()
	}
	if err != nil && generate.Redact(err.Error()) != err.Error() {
		err = errors.New(generate.Redact(err.Error()))
	}
	return s, err
}

// parse sets the flags. The URL may also be an argument, anywhere between them.
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
			return fmt.Errorf("unexpected argument %q: the one argument is the server's URL", arguments[1])
		case given:
			return fmt.Errorf("unexpected argument %q: -url is given as well", arguments[0])
		}
		if err := fs.Set("url", arguments[0]); err != nil { // before WSLOAD_URL, as any flag
			return fmt.Errorf("argument %w", err)
		}
	}
	return flags.Parse(fs, nil, envPrefix)
}

// joinGreeting joins -greeting and a number that follows it to one argument. Without a number,
// -greeting is a flag like -json, so the flag package would take the number for the URL.
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
		"server, as a `URL` ws://host:port/path; the same as the argument. The addresses of a name are tried in turn. A user name and password in it are sent as Basic authorization, and are in no report")
	s.header.set(fs, "header",
		"header `field` 'Name: value' of the opening request; may be repeated. Host replaces the URL's; those that wsload sets itself are refused")
	flags.Var(fs, &s.subprotocol, "subprotocol", nil, parseSubprotocols,
		"subprotocols to offer, a `list` with commas. The server may choose one of them, or none")
	fs.Var(&greetingFlag{&s.greeting}, "greeting",
		"`number` of messages that the server sends before the first echo, on each connection; -greeting alone is 1. Nothing is sent before they have come")
	flags.Var(fs, &s.mode, "mode", string(generate.Echo), flags.Word(string(generate.Echo), string(generate.Idle), string(generate.Connect)),
		"`what` connections do: echo sends and awaits replies for as long as it lasts; idle echoes once and stays silent, to measure memory; connect opens, echoes once, closes, and begins again")
	flags.Var(fs, &s.connections, "connections", 100, flags.Int(1, mostConnections),
		"`number` of connections; in mode connect, of those at a time")
	flags.Var(fs, &s.ramp, "ramp", 0, parseNumber(0, 1e7),
		"connections to open, `a second`. 0: as fast as -handshakes allows")
	flags.Var(fs, &s.handshakes, "handshakes", 128, flags.Int(1, mostConnections),
		"`number` of handshakes that may be outstanding; more than the server's listen queue takes make each other wait")
	flags.Var(fs, &s.sources, "source", nil, parseSourceList,
		"local `addresses`, in turn: a list with commas, or a number of them from 127.0.0.1 on. Each has some 28000 ports for one server address. None: the kernel chooses")
	flags.Var(fs, &s.payload, "payload", payloadMix{{Size: 128, Weight: 1}}, parseMix,
		"length of messages, in `bytes`; or a mix of lengths with their parts, such as 128:90,64KiB:10")
	flags.Var(fs, &s.kind, "type", string(wire.Binary), flags.Word(string(wire.Binary), string(wire.Text), string(wire.Unicode)),
		"`kind` of messages: binary (random bytes), text (ASCII) or unicode (text of characters of one to four bytes)")
	flags.Var(fs, &s.inFlight, "inflight", 1, flags.Int(1, mostInFlight),
		"`number` of messages that a connection may have sent without their replies")
	flags.Var(fs, &s.rate, "rate", 0, parseNumber(0, 1e9),
		"messages to send, `a second` on all connections together, whether or not replies have come; in mode connect, connections to open. Latency is then from the time at which a message was due. 0: a closed loop, the next message is sent when a reply has come")
	fs.BoolVar(&s.reopen, "reopen", false,
		"open connections again that the server closes or loses, at once and then with pauses of up to 1s. To be closed with 1001 or 1012 is no error then; at a rate, what is due meanwhile is sent when the connection is open again. Messages that were sent and not echoed are lost, and counted")
	fs.BoolVar(&s.leave, "leave", false,
		"end connections, once the time is over, by closing TCP without the close handshake, and that after the report, as clients do that vanish; of a million it saves the time")
	flags.Var(fs, &s.duration, "duration", 10*time.Second, flags.Duration(time.Millisecond, longest),
		"`time` to measure")
	flags.Var(fs, &s.warmup, "warmup", time.Second, flags.Duration(0, longest),
		"`time` to run before measuring, once all connections are open")
	flags.Var(fs, &s.timeout, "timeout", 10*time.Second, flags.Duration(time.Millisecond, longest),
		"`time` to wait for a handshake, for anything of an outstanding reply, and for the end of a connection")
	flags.Var(fs, &s.workers, "workers", max(1, runtime.GOMAXPROCS(0)/2), flags.Int(1, 4096),
		"`number` of event loops; the default is half of the CPUs that may be used, the other half being the server's")
	flags.Var(fs, &s.pid, "pid", 0, flags.Int(0, math.MaxInt32),
		"the server's process `number`, to report its CPU a message and its resident memory a connection. 0: unknown")
	flags.Var(fs, &s.interval, "interval", time.Second, flags.Duration(minInterval, time.Hour),
		"`time` from one progress line, and one point of the time series, to the next")
	flags.Var(fs, &s.paused, "paused", "", flags.Text,
		"`file` of 8 bytes where whoever stops this process (SIGSTOP) keeps for how many nanoseconds in all, in the machine's byte order, before it goes on (SIGCONT). They are not counted as time, nor are latencies of messages that were on their way then; make bench so measures servers by turns. None: all time counts")
	fs.BoolVar(&s.json, "json", false, "write the report as JSON, for programs")
	flags.Var(fs, &s.html, "html", "", flags.Text,
		"`file` to write a report with pictures to, with nothing outside of it")
	s.failIf.set(fs, "fail-if",
		"`condition` on which the exit status is 3, such as p99>5ms; may be repeated, or a list with commas. What was not measured fails. Metrics: p50, p90, p99, p99.9, max (times), errors, rate (a second), open (connections), lost (messages), cpu (the server's a message, a time), rss (the server's a connection, bytes); < <= > >=")
	flags.Version(fs, &s.version)
	return s, fs
}

// check checks the flags against each other.
func (s *settings) check() error {
	switch {
	case s.mode == string(generate.Idle) && s.rate > 0:
		return fmt.Errorf("-rate %v: nothing is sent at a rate in mode idle", s.rate)
	case s.mode != string(generate.Echo) && s.inFlight > 1:
		return fmt.Errorf("-inflight %d: there is one message a connection in mode %s", s.inFlight, s.mode)
	case s.connections*s.inFlight > 1<<28:
		return fmt.Errorf("-inflight %d: with -connections %d more than %d messages could be outstanding", s.inFlight, s.connections, 1<<28)
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
		return errors.New("-header Host: is given twice")
	case authorizations > 1 || authorizations > 0 && u.User != nil:
		return errors.New("-header Authorization: is given twice, or user name and password are in the URL as well")
	}
	if _, err := wire.RequestHead(u, s.header, s.subprotocol); err != nil {
		return fmt.Errorf("-url, -header and -subprotocol: %w", err)
	}
	for _, t := range s.failIf {
		if s.mode == string(generate.Idle) && (t.Metric == "rate" || t.Metric == "cpu") {
			return fmt.Errorf("-fail-if %q: %s is not measured in mode idle", t, t.Metric)
		}
		if s.pid == 0 && (t.Metric == "cpu" || t.Metric == "rss") {
			return fmt.Errorf("-fail-if %q: %s is only known with -pid", t, t.Metric)
		}
	}
	return nil
}

// plan returns the plan that the settings ask for. Addrs are the server's addresses.
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

// subject returns what the report of a plan's run is about.
func (s *settings) subject(p *generate.Plan) report.Subject {
	return report.Subject{Plan: p, Payload: s.payload.String(), Type: s.kind, Warmup: s.warmup, PID: s.pid, FailIf: s.failIf}
}

// help writes an explanation of every flag.
func help(w io.Writer) {
	fmt.Fprint(w, `wsload measures a WebSocket echo server: it sends messages on many connections, compares every
byte of the replies, and reports rates, latencies and errors.

usage: wsload [flags] [URL]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
Each flag may be given by the environment variable beside it instead. Bytes are a
number, or one with KiB, MiB or GiB; times are like 300us, 5ms, 10s or 1h30m.

Errors are counted by kind, each with what the first one was, and each costs its connection:
`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for kind := range stats.Failures {
		fmt.Fprintf(t, "  %s\t%s\n", kind, kind.Meaning())
	}
	t.Flush()
	fmt.Fprint(w, `
The report goes to stdout; a progress line goes to stderr if that is a terminal. SIGINT,
SIGTERM and SIGHUP end the measuring early, a second one ends at once. The exit status is:
  0  messages were measured, there was no error, and all reports were written
  1  nothing was measured, a report could not be written, or there were errors
  2  a flag is wrong
  3  a condition of -fail-if holds, or is on what was not measured

With a condition on errors, only that decides how many there may be.
`)
}

// checkURL checks a URL as far as that is possible without a name server.
func checkURL(text string) (string, error) {
	_, err := generate.ParseURL(text)
	return text, err
}

// headerFields is a flag that may be repeated.
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

// subprotocols is a list of different tokens (RFC 6455, section 4.1, item 10).
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

// greetingFlag is a number that may be omitted, which makes it 1.
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

// payloadMix is the lengths of messages and their proportions.
type payloadMix []wire.Portion

func parseMix(text string) (mix payloadMix, err error) {
	items, err := flags.Split(text)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, item := range items {
		length, part, mixed := strings.Cut(item, ":")
		if !mixed {
			part = "1"
		}
		size, err := flags.Size(0, wire.LongestPayload)(length)
		if err != nil {
			return nil, fmt.Errorf("has a length %q that %w", length, err)
		}
		weight, err := flags.Int(1, mostWeight)(part)
		if err != nil {
			return nil, fmt.Errorf("has a part %q that %w", part, err)
		}
		mix = append(mix, wire.Portion{Size: int(size), Weight: weight})
		total += weight
	}
	if total > mostWeight {
		return nil, fmt.Errorf("has parts of %d in all, more than %d", total, mostWeight)
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

// thresholds is a flag that may be repeated.
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
