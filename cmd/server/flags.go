package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"runtime"
	"strings"
	"time"

	"wsecho/internal/flags"
	"wsecho/internal/pool"
)

// settings are what the command line and the environment say.
type settings struct {
	listen           list
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
	subprotocols     choice
	origins          choice
	log              string
	logConnections   bool

	mutexProfileFraction int
	blockProfileRate     int

	justCheck bool
	version   bool
}

const envPrefix = "WSECHO"

// parse reads the settings. Its errors say which flag or variable, what value,
// and what is wrong with it.
func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	return s, flags.Parse(fs, args, envPrefix)
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("wsecho")
	s.listen.set(fs, "listen", ":8080",
		"`address` to serve on: host:port, [::1]:port or unix:/path; :port is IPv4 and IPv6. May be repeated, or a list with commas. Sockets that systemd hands over are served in its place")
	flags.Var(fs, &s.admin, "admin", "127.0.0.1:6060", adminAddress,
		"`address` of the admin endpoints (metrics, health, profiles), host:port; they are for operators only. none: there are none")
	flags.Var(fs, &s.workers, "workers", runtime.GOMAXPROCS(0), flags.Int(1, 4096),
		"`number` of event loops; the default is the CPUs that may be used")
	flags.Var(fs, &s.maxConns, "max-conns", 0, flags.Int(0, math.MaxInt32),
		"`number` of connections; one more gets 503. 0: what the limit of descriptors allows, at most 4194304")
	flags.Var(fs, &s.maxConnsPerIP, "max-conns-per-ip", 0, flags.Int(0, math.MaxInt32),
		"`number` of connections from one IPv4 address or one IPv6 /64; one more gets 503. 0: no limit")
	flags.Var(fs, &s.maxMessage, "max-message", 0, flags.Size(0, math.MaxInt64),
		"longest message, in `bytes`; a longer one ends with close code 1009. 0: no limit")
	flags.Var(fs, &s.maxHeader, "max-header", 8<<10, flags.Size(256, bufferSize/2),
		"longest opening request, in `bytes`; a longer one gets 431")
	flags.Var(fs, &s.handshakeTimeout, "handshake-timeout", 10*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` for the opening request to arrive whole; a slower one gets 408")
	flags.Var(fs, &s.idleTimeout, "idle-timeout", 0, flags.Duration(0, pool.MaxTimeout),
		"`time` of silence after which a connection is closed with 1001; at a third of it it is sent a ping. 0: never")
	flags.Var(fs, &s.writeTimeout, "write-timeout", 30*time.Second, flags.Duration(time.Millisecond, pool.MaxTimeout),
		"`time` for which a peer may leave unread what it was sent, before it is cut off; it begins anew as long as the peer acknowledges 256 bytes per second")
	flags.Var(fs, &s.drainTimeout, "drain-timeout", 10*time.Second, flags.Duration(0, pool.MaxTimeout),
		"`time` that peers have to answer Close 1001 after SIGTERM or SIGINT")
	flags.Var(fs, &s.bufferBudget, "buffer-budget", 256<<20, flags.Size(bufferSize, 64<<30),
		"most memory for unfinished frames and unread replies of all connections, in `bytes`")
	s.subprotocols.set(fs, "subprotocols",
		"subprotocols to agree to: any, which takes the first that is offered, or a `list` with commas")
	s.origins.set(fs, "origins",
		"origins to admit: any, or a `list` of hosts with commas. A request without Origin is always admitted")
	flags.Var(fs, &s.log, "log", "text", flags.Word("text", "json"),
		"`format` of the log on stderr: text or json")
	fs.BoolVar(&s.justCheck, "check", false,
		"print what this machine allows, how many connections that makes, and what to change for more; the exit status is 1 if -max-conns is more")
	fs.BoolVar(&s.logConnections, "log-connections", false,
		"log a line for each connection that comes, and one for its end with peer, close code, bytes and duration")
	flags.Var(fs, &s.mutexProfileFraction, "mutex-profile-fraction", 0, flags.Int(0, math.MaxInt32),
		"sample one of so many `contentions` of mutexes for /debug/pprof/mutex; 1: all, 0: none")
	flags.Var(fs, &s.blockProfileRate, "block-profile-rate", 0, flags.Int(0, math.MaxInt32),
		"sample one blocking event for so many `nanoseconds` spent blocked for /debug/pprof/block; 1: all, 0: none")
	flags.Version(fs, &s.version)
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
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
Each flag may be given by the environment variable beside it instead. Bytes are a
number, or one with KiB, MiB or GiB; times are like 500ms, 10s or 1h30m.

SIGTERM and SIGINT end it: no connection is accepted any more, every peer is told
1001, and the exit status is 0. A second signal ends it at once. The exit status
is 1 if it cannot start or a part fails, 2 if a flag is wrong.
`)
}

// adminAddress is the address of the admin endpoints; "" and "none" are none, for an empty environment variable counts as unset.
func adminAddress(text string) (string, error) {
	if text == "" || text == "none" {
		return "", nil
	}
	if _, _, err := net.SplitHostPort(text); err != nil {
		return "", errors.New("is not host:port")
	}
	return text, nil
}

// list is a flag that may be repeated. What is set replaces the default.
type list []string

func (l *list) set(fs *flag.FlagSet, name, byDefault, usage string) {
	isDefault := true
	flags.Var(fs, l, name, list{byDefault}, func(text string) (list, error) {
		sum := *l
		if isDefault {
			sum, isDefault = nil, false
		}
		items, err := flags.Split(text)
		return append(sum, items...), err
	}, usage)
}

func (l list) String() string { return strings.Join(l, ",") }

// choice is a flag that is "any", or a list of what is meant.
type choice struct {
	any     bool
	members list
}

func (c *choice) set(fs *flag.FlagSet, name, usage string) {
	flags.Var(fs, c, name, choice{any: true}, func(text string) (choice, error) {
		if text == "any" {
			return choice{any: true}, nil
		}
		members, err := flags.Split(text)
		return choice{members: members}, err
	}, usage)
}

func (c choice) String() string {
	if c.any {
		return "any"
	}
	return c.members.String()
}
