// Package admin implements the admin server: health, metrics, profiles and a list of connections,
// over HTTP on listeners of its own. It asks the worker pool for its data only when a request needs
// it, so it costs the workers nothing otherwise.
//
// Every client of the admin server can profile the process and see the peers' addresses. Its
// listeners belong on loopback or on an operators' network.
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

// Limits of the HTTP server. A profile may take longer than writeTimeout: net/http/pprof extends
// the deadline by the requested duration.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = 2 * time.Minute // longer than most scrape intervals
	maxHeader     = 128 << 10       // bytes; the largest -max-header, which /echo enforces itself

	// answerTimeout limits the wait for the workers' answers. A healthy worker answers within
	// milliseconds.
	answerTimeout = time.Second

	// waitMost is the maximum number of waiting scrapes, and of waiting requests for lists.
	waitMost = 1024

	// scrapesMost is the maximum number of scrapes that are answered at the same time. Each holds
	// its text, a little more than 16 KiB, until the client has read it. scrapeWait limits the wait
	// in the queue, scrapeTimeout the answer; together they are below Prometheus's default timeout
	// of 10 s.
	scrapesMost   = 128
	scrapeWait    = 5 * time.Second
	scrapeTimeout = 4 * time.Second

	// listsMost is the maximum number of lists of connections that are made at the same time. Each
	// takes up to 8 MiB, and holds 2 MiB of them until the client has read it. listWait limits the
	// wait in the queue, listTimeout the wait for the workers' answers.
	listsMost   = 4
	listWait    = 5 * time.Second
	listTimeout = 8 * time.Second

	// closeTimeout limits the wait in Close for requests in progress.
	closeTimeout = time.Second
)

// Version identifies the program.
type Version struct {
	Number string `json:"version"`
	Commit string `json:"commit"`
	Go     string `json:"go"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
}

// limits are timeouts that tests shorten.
type limits struct {
	scrapeWait, listWait, listTimeout time.Duration
}

var defaultLimits = limits{scrapeWait, listWait, listTimeout}

// Config configures a Server. Every field must be set.
type Config struct {
	Pool    *pool.Pool
	Echo    http.Handler // at /echo
	Version Version
	Log     *slog.Logger
	LogLost func() uint64 // returns the number of dropped log lines
}

// A Server is an admin server.
type Server struct {
	cfg    Config
	limits limits
	pages  []page
	http   http.Server
	served sync.WaitGroup // one Serve per listener
	failed chan error     // receives the first error of Serve
}

// Start returns a server that serves on the given listeners. Close closes them.
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

// start serves on the listeners. The configuration must not change afterwards.
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

// Failed returns a channel that receives the first error that ends service on a listener.
func (s *Server) Failed() <-chan error { return s.failed }

// Close closes the listeners and waits up to 1 s for requests in progress, then closes their
// connections.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.served.Wait()
}

// A page is a path that the server handles.
type page struct {
	path    string
	handler http.Handler
	about   string // description in the index; empty: not listed
}

func (s *Server) allPages() []page {
	f := func(h http.HandlerFunc) http.Handler { return h }
	return []page{
		{"/healthz", f(s.healthz), "200 if every worker answers within 1 s"},
		{"/readyz", f(s.readyz), "200 if new connections are accepted; 503 if full or draining"},
		{"/metrics", s.metrics(), "metrics for Prometheus"},
		{"/connz", s.connz(), "connections as JSON: ?sort=age (or idle, bytes), ?peer=192.0.2.0/24, ?limit=100, ?offset=0, ?after=NEXT"},
		{"/version", f(s.version), "version, commit, Go version, platform"},
		{"/echo", s.cfg.Echo, "WebSocket echo through net/http"},
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

// metrics returns the handler of /metrics: metrics of the Go runtime, the process and the pool.
// Simultaneous scrapes share gathered metrics. Because of the timeout, promhttp encodes into
// memory, so that it does not hold the gathered metrics while a slow client reads. Compression is
// disabled because gzip's state would need more memory than the whole server has after start.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{s.cfg.Pool, s.cfg.Version, s.cfg.LogLost},
	)
	gatherer := prometheus.GathererFunc(share(registry.Gather).get)
	return newQueue(promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling:      promhttp.ContinueOnError, // report the available metrics even if a worker hangs
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
	writeLine(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	switch p := s.cfg.Pool; {
	case p.Draining():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	case p.Full():
		http.Error(w, "full", http.StatusServiceUnavailable)
	default:
		writeLine(w, "ready")
	}
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.cfg.Version) }

// writeLine answers with a line of text.
func writeLine(w http.ResponseWriter, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(line + "\n"))
}

func writeJSON(w http.ResponseWriter, x any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(x) // fails only if the client has disconnected
}

// Profiles enables the runtime's mutex and block profiles, which are off by default because they
// cost time. On average, one in mutexFraction mutex contentions is sampled, and one blocking event
// per blockRate nanoseconds spent blocked; 0 disables either.
func Profiles(mutexFraction, blockRate int) {
	if mutexFraction > 0 {
		runtime.SetMutexProfileFraction(mutexFraction)
	}
	if blockRate > 0 {
		runtime.SetBlockProfileRate(blockRate)
	}
}
