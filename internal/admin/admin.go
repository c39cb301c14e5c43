// Package admin is the operator's side of the server: profiles, metrics, health, and who is connected, by HTTP on a
// listener of its own. Whatever it tells, it asks the worker pool for; the workers do nothing for it otherwise.
//
// Whoever can reach it can profile the process and see its peers' addresses: it is for loopback, or a network of operators.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wsecho/internal/pool"
)

// Times of the HTTP server. A profile takes as long as it is asked to, for net/http/pprof adds that to writeTimeout itself.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = 2 * time.Minute // longer than most scrape intervals
	maxHeader     = 128 << 10       // bytes; the most that -max-header may be, which /echo applies by itself

	// answerTimeout is how long the workers have to answer. The loop of each should turn within that time.
	answerTimeout = time.Second

	// waitMost is how many requests may wait for a turn, for scrapes and for lists each.
	waitMost = 1024

	// scrapesMost scrapes are answered at once. Each holds its text, 16 KiB and some, until the
	// client has read it. scrapeWait is for a turn, scrapeTimeout for gathering: together less than
	// the 10 s after which Prometheus gives up.
	scrapesMost   = 128
	scrapeWait    = 5 * time.Second
	scrapeTimeout = 4 * time.Second

	// listsMost lists of connections are made at once. Each takes up to 8 MiB, and holds 2 MiB of
	// them until the client has read it. listWait is for a turn, listTimeout for the workers to
	// answer.
	listsMost   = 4
	listWait    = 5 * time.Second
	listTimeout = 8 * time.Second

	// closeTimeout is for requests that are being answered when the server ends.
	closeTimeout = time.Second
)

// Version is what program this is.
type Version struct {
	Number string `json:"version"`
	Commit string `json:"commit"`
	Go     string `json:"go"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
}

// limits are what tests make shorter.
type limits struct {
	scrapeWait, listWait, listTimeout time.Duration
}

var defaultLimits = limits{scrapeWait, listWait, listTimeout}

// Config is what the server tells of. Every field is to be set.
type Config struct {
	Pool    *pool.Pool
	Echo    http.Handler // at /echo
	Version Version
	Log     *slog.Logger
	LogLost func() uint64 // lines that the log has lost
}

// Server is the admin server.
type Server struct {
	cfg    Config
	limits limits
	pages  []page
	http   http.Server
	served sync.WaitGroup // one Serve for each listener
	failed chan error     // the first error of one
}

// Start starts to serve on listeners, which it will close.
func Start(listeners []net.Listener, cfg Config) *Server {
	s := newServer(cfg)
	s.start(listeners...)
	return s
}

func newServer(cfg Config) *Server {
	s := &Server{cfg: cfg, limits: defaultLimits, failed: make(chan error, 1)}
	s.http = http.Server{
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// start serves on the listeners. What is configured changes no more.
func (s *Server) start(listeners ...net.Listener) {
	s.pages = s.allPages()
	s.http.Handler = s.mux()
	for _, l := range listeners {
		s.served.Go(func() {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				select {
				case s.failed <- err:
				default: // another listener has failed before
				}
			}
		})
	}
}

// Failed delivers the error that keeps it from serving on.
func (s *Server) Failed() <-chan error { return s.failed }

// Close ends the server. Requests that are being answered have a second for it.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.served.Wait()
}

// page is something to be asked for.
type page struct {
	path    string
	handler http.Handler
	about   string // for the index; empty: not there
}

func (s *Server) allPages() []page {
	f := func(h http.HandlerFunc) http.Handler { return h }
	return []page{
		{"/healthz", f(s.healthz), "200 if every worker's loop turns"},
		{"/readyz", f(s.readyz), "200 if connections are accepted; 503 when full, and as soon as a drain begins"},
		{"/metrics", s.metrics(), "metrics for Prometheus"},
		{"/connz", s.connz(), "connections: ?sort=age, idle or bytes, ?peer=192.0.2.0/24, ?limit=100, ?offset=0, ?after=MARK"},
		{"/version", f(s.version), "version, commit, Go version"},
		{"/echo", s.cfg.Echo, "the same echo, by way of net/http"},
		{"/debug/pprof/", f(pprof.Index), "profiles: allocs, block, goroutine, heap, mutex, threadcreate"},
		{"/debug/pprof/profile", f(pprof.Profile), "CPU profile: ?seconds=30"},
		{"/debug/pprof/trace", f(pprof.Trace), "execution trace: ?seconds=1"},
		{"/debug/pprof/cmdline", f(pprof.Cmdline), "command line"},
		{"/debug/pprof/symbol", f(pprof.Symbol), ""},
	}
}

func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, p := range s.pages {
		mux.Handle(p.path, p.handler)
	}
	mux.HandleFunc("GET /{$}", s.index)
	return mux
}

// metrics serves Go's figures, the process's, and the pool's. Simultaneous scrapes share what is
// gathered. With a timeout, promhttp encodes into memory, and gathered metrics are not kept for a
// client that reads slowly. It does not compress: what gzip keeps for that is more than all that
// the server has at the start.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{s.cfg.Pool, s.cfg.Version, s.cfg.LogLost},
	)
	gatherer := prometheus.GathererFunc(share(registry.Gather).get)
	return newQueue(promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling:      promhttp.ContinueOnError, // what is known is told, even if a worker hangs
		ErrorLog:           slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
		DisableCompression: true,
		Timeout:            scrapeTimeout,
	}), scrapesMost, waitMost, s.limits.scrapeWait)
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	if err := s.cfg.Pool.Healthy(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	say(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	switch p := s.cfg.Pool; {
	case p.Draining():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	case p.Full():
		http.Error(w, "full", http.StatusServiceUnavailable)
	default:
		say(w, "ready")
	}
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.cfg.Version) }

func say(w http.ResponseWriter, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(line + "\n"))
}

func writeJSON(w http.ResponseWriter, x any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(x) // the peer has gone
}

// Profiles has the runtime sample what it otherwise does not, because it costs something: one of mutexFraction
// contentions of mutexes, and one blocking event for so many nanoseconds that were spent blocked. 0: none.
func Profiles(mutexFraction, blockRate int) {
	if mutexFraction > 0 {
		runtime.SetMutexProfileFraction(mutexFraction)
	}
	if blockRate > 0 {
		runtime.SetBlockProfileRate(blockRate)
	}
}
