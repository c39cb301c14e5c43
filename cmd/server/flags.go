package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/flags"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
)

// settings are what the command line and the environment say.
type settings struct {
	listen           addresses
	unixMode         unixMode
	unixGroup        unixGroup
	admin            string // empty: none
	workers          int
	maxConns         int
	maxConnsPerIP    int
	maxMessage       flags.ByteSize
	maxHeader        flags.ByteSize
	handshakeTimeout time.Duration
	idleTimeout      time.Duration
	writeTimeout     time.Duration
	drainTimeout     time.Duration
	bufferBudget     flags.ByteSize
	subprotocols     choice[string]
	origins          choice[echo.Origin]
	log              string
	logConnections   bool

	mutexProfileFraction int
	blockProfileRate     int

	justCheck   bool
	healthcheck bool
	version     bool
}

const envPrefix = "WSECHO"

// parse reads the settings. Its errors say which flag or variable, what value,
// and what is wrong with it.
func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	if err := flags.Parse(fs, args, envPrefix); err != nil {
		return s, err
	}
	return s, s.checkUnix()
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("wsecho")
	s.listen.set(fs, "listen", ":8080",
		"`address` to serve on: host:port, [IPv6]:port, unix:/path, or unix:@name in the abstract namespace. :port is IPv6 and IPv4, 0.0.0.0:port is IPv4 only, [::]:port is IPv6 only, a name is all of its addresses. May be repeated, or a list with commas. Sockets that systemd hands over are served in its place")
	flags.Var(fs, &s.unixMode, "unix-mode", unixMode{}, parseUnixMode,
		"`octal` permissions of the unix sockets of -listen, such as 0660; connecting needs permission to write. umask: what the umask leaves of 0777")
	flags.Var(fs, &s.unixGroup, "unix-group", unixGroup{}, parseUnixGroup,
		"`group` of the unix sockets of -listen, by name or number. none: the server's own")
	flags.Var(fs, &s.admin, "admin", "127.0.0.1:6060", adminAddress,
		"`address` of the admin endpoints (metrics, health, profiles), host:port as for -listen; they are for operators only. none: there are none")
	flags.Var(fs, &s.workers, "workers", runtime.GOMAXPROCS(0), flags.Int(1, 4096),
		"`number` of event loops; the default is the CPUs that may be used")
	flags.Var(fs, &s.maxConns, "max-conns", 0, flags.Int(0, math.MaxInt32),
		"`number` of connections; one more gets 503. 0: what the limit of descriptors allows, at most 4194304")
	flags.Var(fs, &s.maxConnsPerIP, "max-conns-per-ip", 0, flags.Int(0, math.MaxInt32),
		"`number` of connections from one IPv4 address or one IPv6 /64; one more gets 503. 0: no limit")
	flags.Var(fs, &s.maxMessage, "max-message", 0, flags.Size(0, math.MaxInt64),
		"longest message, in `bytes`; a longer one ends with close code 1009. 0: no limit")
	flags.Var(fs, &s.maxHeader, "max-header", 16<<10, flags.Size(256, pool.BufferSize/2),
		"longest opening request, in `bytes`; a longer one gets 431")
	flags.Var(fs, &s.handshakeTimeout, "handshake-timeout", 10*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` for the opening request to arrive whole; a slower one gets 408")
	flags.Var(fs, &s.idleTimeout, "idle-timeout", 0, flags.Duration(0, pool.MaxTimeout),
		"`time` of silence after which a connection is closed with 1001; at a third of it it is sent a ping. 0: never")
	flags.Var(fs, &s.writeTimeout, "write-timeout", 30*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` for which a peer may leave unread what it was sent, before it is cut off; it begins anew as long as the peer acknowledges 256 bytes per second")
	flags.Var(fs, &s.drainTimeout, "drain-timeout", 10*time.Second, flags.Duration(0, pool.MaxTimeout),
		"`time` that peers have to answer Close 1001 after SIGTERM, SIGINT or SIGHUP")
	flags.Var(fs, &s.bufferBudget, "buffer-budget", 256<<20, flags.Size(pool.BufferSize, 64<<30),
		"most memory for unfinished frames and unread replies of all connections, in `bytes`")
	s.subprotocols.set(fs, "subprotocols", subprotocols,
		"subprotocols to agree to: any, which takes the first that is offered, or a `list` with commas")
	s.origins.set(fs, "origins", origins,
		"origins to admit: any, or a `list` with commas of host or host:port. Without port, every port is admitted; *.example.com is every host below example.com; null is what sandboxed pages send. A request without Origin is always admitted")
	flags.Var(fs, &s.log, "log", "text", flags.Word("text", "json"),
		"`format` of the log on stderr: text or json")
	fs.BoolVar(&s.justCheck, "check", false,
		"print what this machine allows, how many connections that makes, and what to change for more; the exit status is 1 if -max-conns is more")
	fs.BoolVar(&s.healthcheck, "healthcheck", false,
		"ask the running server whose -admin this is whether it is healthy (/healthz), and exit with 0 if it says so, or with 1 and the reason; for containers")
	fs.BoolVar(&s.logConnections, "log-connections", false,
		"log a line for each connection that comes, and one for its end with peer, close code, bytes and duration")
	flags.Var(fs, &s.mutexProfileFraction, "mutex-profile-fraction", 0, flags.Int(0, math.MaxInt32),
		"sample one of so many `contentions` of mutexes for /debug/pprof/mutex; 1: all, 0: none")
	flags.Var(fs, &s.blockProfileRate, "block-profile-rate", 0, flags.Int(0, math.MaxInt32),
		"sample one blocking event for so many `nanoseconds` spent blocked for /debug/pprof/block; 1: all, 0: none")
	flags.Version(fs, &s.version)
	return s, fs
}

// logFormat is a handler that writes to w in the format of -log.
func (s *settings) logFormat(w io.Writer) slog.Handler {
	if s.log == "json" {
		return slog.NewJSONHandler(w, nil)
	}
	return slog.NewTextHandler(w, nil)
}

// help explains every flag.
func help(w io.Writer) {
	fmt.Fprint(w, `wsecho is a WebSocket echo server: it sends back what it is sent.

usage: wsecho [flags]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
Each flag may be given by the environment variable beside it instead. Bytes are a
number, or one with KiB, MiB or GiB; times are like 500ms, 10s or 1h30m.

SIGTERM, SIGINT and SIGHUP end it: no connection is accepted any more, every peer
is told 1001, and the exit status is 0. A second SIGTERM or SIGINT ends it at once.
SIGHUP is ignored if it was when the server started, as by nohup(1). The exit status
is 1 if it cannot start or a part fails, 2 if a flag is wrong.

The server never waits for stderr. Lines of the log that stderr does not take are
dropped and counted: wsecho_log_lines_lost_total in /metrics, and a line in the log
once it works again.
`)
}

// adminAddress is the address of the admin endpoints; "" and "none" are none, for an empty environment variable counts as unset.
func adminAddress(text string) (string, error) {
	if text == "" || text == "none" {
		return "", nil
	}
	a, err := netpoll.ParseAddress(text)
	if err == nil && !a.IsTCP() {
		err = errors.New("the admin endpoints are served over TCP only")
	}
	if err != nil {
		return "", fmt.Errorf("is not host:port: %w", err)
	}
	return text, nil
}

type list []string

func (l list) String() string { return strings.Join(l, ",") }

// choice is a flag that is "any", or a list.
type choice[T any] struct {
	any     bool
	members []T
}

const anyMember = "any"

func (c *choice[T]) set(fs *flag.FlagSet, name string, parse func(members []string) ([]T, error), usage string) {
	flags.Var(fs, c, name, choice[T]{any: true}, func(text string) (choice[T], error) {
		if strings.TrimSpace(text) == anyMember {
			return choice[T]{any: true}, nil
		}
		members, err := flags.Split(text)
		if err != nil {
			return choice[T]{}, err
		}
		for _, m := range members {
			if strings.EqualFold(m, anyMember) {
				return choice[T]{}, fmt.Errorf("has the member %q: %s must stand alone, in lower case", m, anyMember)
			}
		}
		parsed, err := parse(members)
		return choice[T]{members: parsed}, err
	}, usage)
}

func (c choice[T]) String() string {
	if c.any {
		return anyMember
	}
	var members list
	for _, m := range c.members {
		members = append(members, fmt.Sprint(m))
	}
	return members.String()
}

// origins parses the members of -origins.
func origins(members []string) (all []echo.Origin, err error) {
	for _, m := range members {
		o, err := echo.ParseOrigin(m)
		if err != nil {
			return nil, wrongMember(m, members, err)
		}
		all = append(all, o)
	}
	return all, nil
}

// subprotocols checks the members of -subprotocols. A token may contain single quotes, but one that
// is enclosed in them comes from an environment file, where no shell has removed them.
func subprotocols(members []string) ([]string, error) {
	for i, m := range members {
		err := echo.CheckSubprotocol(m)
		switch {
		case err != nil:
		case slices.Contains(members[:i], m):
			err = errors.New("is there twice")
		case len(m) > 1 && m[0] == '\'' && m[len(m)-1] == '\'':
			err = errors.New("is in quotes")
		}
		if err != nil {
			return nil, wrongMember(m, members, err)
		}
	}
	return members, nil
}

// wrongMember returns the error of one member of a list. It names the member, unless that is the
// whole list.
func wrongMember(member string, members []string, err error) error {
	if len(members) == 1 {
		return err
	}
	return fmt.Errorf("has the member %q, which %w", member, err)
}

// poolConfig returns the pool that the settings ask for. Its descriptors have yet to be fitted to a limit.
func (s *settings) poolConfig(log *slog.Logger) *pool.Config {
	return &pool.Config{
		Workers:          s.workers,
		MaxConns:         s.maxConns,
		MaxConnsPerIP:    s.maxConnsPerIP,
		BufferSize:       pool.BufferSize,
		BufferBudget:     int(s.bufferBudget),
		HandshakeTimeout: s.handshakeTimeout,
		IdleTimeout:      s.idleTimeout,
		WriteTimeout:     s.writeTimeout,
		Echo: echo.Config{
			MaxMessage:     uint64(s.maxMessage),
			MaxHeader:      int(s.maxHeader),
			AnySubprotocol: s.subprotocols.any,
			Subprotocols:   s.subprotocols.members,
			AnyOrigin:      s.origins.any,
			Origins:        s.origins.members,
			Now:            time.Now,
		},
		Log: log,
	}
}

// fit fits a pool to the process's limit of descriptors. The error names the flag.
func (s *settings) fit(cfg *pool.Config, descriptors int) error {
	err := cfg.Fit(descriptors)
	switch {
	case errors.Is(err, pool.ErrTooManyWorkers):
		return fmt.Errorf("-workers %d: %w", s.workers, err)
	case errors.Is(err, pool.ErrTooManyConns):
		return fmt.Errorf("-max-conns %d: %w", s.maxConns, err)
	}
	return err
}
