package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3"

	"wsecho/internal/pool"
)

// settings are what the command line and the environment say.
type settings struct {
	listen           list
	workers          int
	maxConns         int
	maxMessage       byteSize
	maxHeader        byteSize
	handshakeTimeout time.Duration
	idleTimeout      time.Duration
	writeTimeout     time.Duration
	drainTimeout     time.Duration
	bufferBudget     byteSize
	subprotocols     choice
	origins          choice
	log              string
	version          bool
}

const envPrefix = "WSECHO"

// parse reads the settings. Its errors say which flag or variable, what value,
// and what is wrong with it.
func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix(envPrefix)); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without ff's "error parsing …" in front
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: there are only flags", fs.Arg(0))
	}
	return s, nil
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flag.NewFlagSet("wsecho", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}

	s.listen.set(fs, "listen", ":8080",
		"`address` to serve on: host:port, [::1]:port or unix:/path; :port is IPv4 and IPv6. May be repeated, or a list with commas")
	setting(fs, &s.workers, "workers", runtime.GOMAXPROCS(0), parseInt(1, 4096),
		"`number` of event loops; the default is the CPUs that may be used")
	setting(fs, &s.maxConns, "max-conns", 0, parseInt(0, math.MaxInt32),
		"`number` of connections; one more gets 503. 0: what the limit of descriptors allows, at most 4194304")
	setting(fs, &s.maxMessage, "max-message", 0, parseSize(0, math.MaxInt64),
		"longest message, in `bytes`; a longer one ends with close code 1009. 0: no limit")
	setting(fs, &s.maxHeader, "max-header", 8<<10, parseSize(256, bufferSize/2),
		"longest opening request, in `bytes`; a longer one gets 431")
	setting(fs, &s.handshakeTimeout, "handshake-timeout", 10*time.Second, parseDuration(time.Millisecond),
		"`time` for the opening request to arrive whole; a slower one gets 408")
	setting(fs, &s.idleTimeout, "idle-timeout", 0, parseDuration(0),
		"`time` of silence after which a connection is closed with 1001; at a third of it it is sent a ping. 0: never")
	setting(fs, &s.writeTimeout, "write-timeout", 30*time.Second, parseDuration(time.Millisecond),
		"`time` for which a peer may leave unread what it was sent, before it is cut off")
	setting(fs, &s.drainTimeout, "drain-timeout", 10*time.Second, parseDuration(0),
		"`time` that peers have to answer Close 1001 after SIGTERM or SIGINT")
	setting(fs, &s.bufferBudget, "buffer-budget", 256<<20, parseSize(bufferSize, 64<<30),
		"most memory for unfinished frames and unread replies of all connections, in `bytes`")
	s.subprotocols.set(fs, "subprotocols",
		"subprotocols to agree to: any, which takes the first that is offered, or a `list` with commas")
	s.origins.set(fs, "origins",
		"origins to admit: any, or a `list` of hosts with commas. A request without Origin is always admitted")
	setting(fs, &s.log, "log", "text", parseWord("text", "json"),
		"`format` of the log on stderr: text or json")
	fs.BoolFunc("version", "print version, commit and Go version", func(text string) error {
		// Deployments have a WSECHO_VERSION of their own that says something else.
		s.version = text == "true"
		return nil
	})
	return s, fs
}

func (s *settings) logger(w io.Writer) *slog.Logger {
	if s.log == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// help explains every flag.
func help(w io.Writer) {
	fmt.Fprint(w, `wsecho is a WebSocket echo server: it sends back what it is sent.

usage: wsecho [flags]

`)
	_, fs := newSettings()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fs.VisitAll(func(f *flag.Flag) {
		unit, usage := flag.UnquoteUsage(f)
		variable := envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		byDefault := ""
		if f.Name == "version" {
			variable = ""
		} else {
			byDefault = fmt.Sprintf(" (default %s)", cmp.Or(f.DefValue, "none"))
		}
		fmt.Fprintf(t, "  -%s %s\t%s\n  \t%s%s\n", f.Name, unit, variable, usage, byDefault)
	})
	t.Flush()
	fmt.Fprint(w, `
Each flag may be given by the environment variable beside it instead. Bytes are a
number, or one with KiB, MiB or GiB; times are like 500ms, 10s or 1h30m.

SIGTERM and SIGINT end it: no connection is accepted any more, every peer is told
1001, and the exit status is 0. A second signal ends it at once. The exit status
is 1 if it cannot start or a part fails, 2 if a flag is wrong.
`)
}

// value is a flag whose text is checked when it is set, and whose error names
// the text.
type value[T any] struct {
	p     *T
	parse func(string) (T, error)
}

func setting[T any](fs *flag.FlagSet, p *T, name string, byDefault T, parse func(string) (T, error), usage string) {
	*p = byDefault
	fs.Var(value[T]{p, parse}, name, usage)
}

func (v value[T]) Set(text string) error {
	x, err := v.parse(text)
	if err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	*v.p = x
	return nil
}

func (v value[T]) String() string {
	if v.p == nil {
		return ""
	}
	return fmt.Sprint(*v.p)
}

func parseInt(least, most int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("is not a whole number")
		}
		return n, between(n, least, most)
	}
}

func parseDuration(least time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("is not a time such as 500ms, 10s or 1h30m")
		}
		return d, between(d, least, pool.MaxTimeout)
	}
}

func parseWord(words ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		for _, w := range words {
			if text == w {
				return w, nil
			}
		}
		return "", fmt.Errorf("is not one of %s", strings.Join(words, ", "))
	}
}

func between[T cmp.Ordered](x, least, most T) error {
	if x < least || x > most {
		return fmt.Errorf("is not between %v and %v", least, most)
	}
	return nil
}

// byteSize is a number of bytes.
type byteSize int64

var byteUnits = []struct {
	name string
	size byteSize
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (b byteSize) String() string {
	for _, u := range byteUnits {
		if b >= u.size && b%u.size == 0 && u.size > 1 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func parseSize(least, most byteSize) func(string) (byteSize, error) {
	return func(text string) (byteSize, error) {
		digits, unit := text, byteSize(1)
		for _, u := range byteUnits {
			if d, found := strings.CutSuffix(text, u.name); found {
				digits, unit = strings.TrimSpace(d), u.size
				break
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || byteSize(n) > math.MaxInt64/unit {
			return 0, errors.New("is not a number of bytes such as 65536, 64KiB or 1GiB")
		}
		return byteSize(n) * unit, between(byteSize(n)*unit, least, most)
	}
}

// list is a flag that may be repeated. What is set replaces the default.
type list []string

func (l *list) set(fs *flag.FlagSet, name, byDefault, usage string) {
	*l = list{byDefault}
	isDefault := true
	fs.Var(value[list]{l, func(text string) (list, error) {
		sum := *l
		if isDefault {
			sum, isDefault = nil, false
		}
		items, err := split(text)
		return append(sum, items...), err
	}}, name, usage)
}

func split(text string) (list, error) {
	items := strings.Split(text, ",")
	for i := range items {
		if items[i] = strings.TrimSpace(items[i]); items[i] == "" {
			return nil, errors.New("has an empty member")
		}
	}
	return items, nil
}

func (l list) String() string { return strings.Join(l, ",") }

// choice is a flag that is "any", or a list of what is meant.
type choice struct {
	any     bool
	members list
}

func (c *choice) set(fs *flag.FlagSet, name, usage string) {
	setting(fs, c, name, choice{any: true}, func(text string) (choice, error) {
		if text == "any" {
			return choice{any: true}, nil
		}
		members, err := split(text)
		return choice{members: members}, err
	}, usage)
}

func (c choice) String() string {
	if c.any {
		return "any"
	}
	return c.members.String()
}
