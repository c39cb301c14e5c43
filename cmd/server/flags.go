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

	"wsecho/internal/console"
	"wsecho/internal/echo"
	"wsecho/internal/flags"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
)

// settings hold the values of all flags, from the command line and the environment.
type settings struct {
	listen           addresses
	unixMode         unixMode
	unixGroup        unixGroup
	admin            string // empty: no admin endpoints
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
	console          bool
	log              string
	logConnections   bool

	mutexProfileFraction int
	blockProfileRate     int

	checkOnly   bool
	healthcheck bool
	version     bool
}

const envPrefix = "WSECHO"

// parse reads the settings. Its errors name the flag or variable, the value, and the cause.
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
		"`address` to listen on: host:port, [IPv6]:port, unix:/path, or unix:@name in the abstract namespace. :port listens on IPv6 and IPv4, 0.0.0.0:port on IPv4 only, [::]:port on IPv6 only, a host name on all of its addresses. Repeat the flag or separate addresses with commas. Not used if systemd passes sockets (LISTEN_FDS)")
	flags.Var(fs, &s.unixMode, "unix-mode", unixMode{}, parseUnixMode,
		"`octal` permissions of the -listen unix sockets, such as 0660; clients need write permission to connect. umask: 0777 without the bits of the umask")
	flags.Var(fs, &s.unixGroup, "unix-group", unixGroup{}, parseUnixGroup,
		"`group` of the -listen unix sockets, by name or number. none: the server's own group")
	flags.Var(fs, &s.admin, "admin", "127.0.0.1:6060", adminAddress,
		"`address` of the admin endpoints (metrics, health, profiles), host:port as for -listen; for operators only. none: no admin endpoints")
	flags.Var(fs, &s.workers, "workers", runtime.GOMAXPROCS(0), flags.Int(1, 4096),
		"`number` of event loops; the default is the number of usable CPUs (GOMAXPROCS)")
	flags.Var(fs, &s.maxConns, "max-conns", 0, flags.Int(0, math.MaxInt32),
		"maximum `number` of connections; further ones get 503. 0: what the descriptor limit allows, at most 4194304")
	flags.Var(fs, &s.maxConnsPerIP, "max-conns-per-ip", 0, flags.Int(0, math.MaxInt32),
		"maximum `number` of connections per IPv4 address or IPv6 /64; further ones get 503. 0: no limit")
	flags.Var(fs, &s.maxMessage, "max-message", 0, flags.Size(0, math.MaxInt64),
		"maximum message length in `bytes`; a longer message ends the connection with close code 1009. 0: no limit")
	flags.Var(fs, &s.maxHeader, "max-header", 16<<10, flags.Size(256, pool.BufferSize/2),
		"maximum length of the opening request in `bytes`; a longer one gets 431")
	flags.Var(fs, &s.handshakeTimeout, "handshake-timeout", 10*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` for the opening request to arrive completely; a slower one gets 408")
	flags.Var(fs, &s.idleTimeout, "idle-timeout", 0, flags.Duration(0, pool.MaxTimeout),
		"`time` without data from the peer, after which the server closes the connection with 1001; after a third of it the server sends a ping. 0: never")
	flags.Var(fs, &s.writeTimeout, "write-timeout", 30*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` without progress after which the server disconnects a peer that does not read. Acknowledging at least 256 bytes per second is progress")
	flags.Var(fs, &s.drainTimeout, "drain-timeout", 10*time.Second, flags.Duration(0, pool.MaxTimeout),
		"maximum `time` of a drain, after SIGTERM, SIGINT or SIGHUP; connections that remain then are cut")
	flags.Var(fs, &s.bufferBudget, "buffer-budget", 256<<20, flags.Size(pool.BufferSize, 64<<30),
		"maximum memory in `bytes` for the unfinished frames and unread replies of all connections together")
	s.subprotocols.set(fs, "subprotocols", subprotocols,
		"subprotocols to accept, as a comma-separated `list`. any: the first one that the client offers")
	s.origins.set(fs, "origins", origins,
		"origins to accept: any, or a comma-separated `list` of host or host:port without scheme; others get 403. A host without port accepts every port, *.example.com every host below example.com, null sandboxed pages. A request without Origin is always accepted")
	fs.BoolVar(&s.console, "console", true,
		"answer browsers that open the server's address with the console, a page that sends messages and shows their echoes")
	flags.Var(fs, &s.log, "log", "text", flags.Word("text", "json"),
		"format of the log on stderr, `text|json`")
	fs.BoolVar(&s.checkOnly, "check", false,
		"print how many connections this machine allows, which limit is reached first and what to change for more, and exit; the exit status is 1 if -max-conns is higher")
	fs.BoolVar(&s.healthcheck, "healthcheck", false,
		"request /healthz from the running server at -admin, and exit with 0 if it is healthy, or with 1 and the reason; for containers")
	fs.BoolVar(&s.logConnections, "log-connections", false,
		"log a line when a connection opens, and one when it closes, with peer, close code, bytes and duration")
	flags.Var(fs, &s.mutexProfileFraction, "mutex-profile-fraction", 0, flags.Int(0, math.MaxInt32),
		"record one in this many mutex `contentions` in /debug/pprof/mutex; 1: all, 0: none")
	flags.Var(fs, &s.blockProfileRate, "block-profile-rate", 0, flags.Int(0, math.MaxInt32),
		"record one blocking event per this many `nanoseconds` spent blocked in /debug/pprof/block; 1: all, 0: none")
	flags.Version(fs, &s.version)
	return s, fs
}

// logFormat returns a handler that writes to w in the format of -log.
func (s *settings) logFormat(w io.Writer) slog.Handler {
	if s.log == "json" {
		return slog.NewJSONHandler(w, nil)
	}
	return slog.NewTextHandler(w, nil)
}

// help writes the text of -h. deploy/manual makes the man page from it.
func help(w io.Writer) {
	fmt.Fprint(w, `wsecho is a WebSocket echo server: it returns every message that it receives.

usage: wsecho [flags]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
The environment variable beside a flag sets it as well; the flag takes precedence.
Bytes are a number, optionally with KiB, MiB or GiB; times are like 500ms, 10s or 1h30m.

SIGTERM, SIGINT and SIGHUP drain: the server accepts no new connections, closes every
open connection with 1001, answers unfinished requests with 503, and exits with status
0. A second SIGTERM or SIGINT ends it at once. SIGHUP is ignored if it was ignored at
start, as by nohup(1). The exit status is 2 if a flag cannot be parsed, and 1 if the
server cannot start with it or a part of the server fails.

The server never blocks on stderr. It drops and counts log lines that stderr does not
take (wsecho_log_lines_lost_total in /metrics), and logs the count when stderr works
again.
`)
}

// adminAddress parses the address of the admin endpoints. It returns "" for "none", and for "",
// because an empty environment variable counts as unset.
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

// choice is the value of a flag that is "any" or a list.
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
			err = errors.New("is in the list twice")
		case len(m) > 1 && m[0] == '\'' && m[len(m)-1] == '\'':
			err = errors.New("is in quotes")
		}
		if err != nil {
			return nil, wrongMember(m, members, err)
		}
	}
	return members, nil
}

// wrongMember adds the member to the error of one member of a list, unless the list has no other
// member.
func wrongMember(member string, members []string, err error) error {
	if len(members) == 1 {
		return err
	}
	return fmt.Errorf("has the member %q, which %w", member, err)
}

// poolConfig returns the pool configuration of the settings. Call fit before using it.
func (s *settings) poolConfig(log *slog.Logger) *pool.Config {
	var page *echo.Page
	if s.console {
		page = echo.NewPage(console.Page())
	}
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
			Page:           page,
			Now:            time.Now,
		},
		Log: log,
	}
}

// fit fits a pool to the descriptor limit of the process. Its errors name the flag.
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
