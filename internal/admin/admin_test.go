package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/hijack"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
	"wsecho/internal/testpeer"
)

const soon = 10 * time.Second // timeout of everything that a test waits for

// A harness is a pool and its admin server.
type harness struct {
	t      testing.TB
	pool   *pool.Pool
	server *Server
	front  string // address of the pool's listener
	addr   string // address of the admin server
}

func newHarness(t testing.TB, changes ...func(*pool.Config)) *harness {
	t.Helper()
	return newHarnessWith(t, func(*Server) {}, changes...)
}

// newHarnessWith returns a harness whose admin server tune changes before it starts.
func newHarnessWith(t testing.TB, tune func(*Server), changes ...func(*pool.Config)) *harness {
	t.Helper()
	cfg := pool.Config{
		Workers: 2, MaxConns: 100, MaxFDs: 20_000,
		BufferSize: 64 << 10, BufferBudget: 16 << 20,
		HandshakeTimeout: soon, WriteTimeout: soon, CloseTimeout: soon, LingerTimeout: 2 * time.Second,
		Echo: echo.Config{MaxHeader: 8 << 10, AnySubprotocol: true, AnyOrigin: true, Now: time.Now},
		Log:  slog.New(slog.DiscardHandler),
	}
	for _, change := range changes {
		change(&cfg)
	}
	front, err := netpoll.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(cfg, []netpoll.Listener{front})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, pool: p, front: front.Addr.String(), addr: l.Addr().String()}
	h.server = newServer(Config{
		Pool: p, Echo: hijack.New(p, cfg.Echo), Log: cfg.Log, LogLost: func() uint64 { return 7 },
		Version: Version{Number: "1.2.3", Commit: "abc", Go: "go1.26", OS: "linux", Arch: "amd64"},
	})
	h.server.http.ReadHeaderTimeout = 500 * time.Millisecond
	tune(h.server)
	h.server.start(l)
	t.Cleanup(func() {
		p.Shutdown(0)
		h.server.Close()
		p.Close()
	})
	return h
}

// asks sends a GET request on a connection of its own, and returns the response and its body.
func (h *harness) asks(path string) (*http.Response, string) {
	h.t.Helper()
	response, body, err := h.get(path)
	if err != nil {
		h.t.Fatalf("%s: %v", path, err)
	}
	return response, body
}

func (h *harness) get(path string) (*http.Response, string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * soon}
	response, err := client.Get("http://" + h.addr + path)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

// wants checks the status and a part of the body of a response, and returns the body.
func (h *harness) wants(path string, status int, contains string) string {
	h.t.Helper()
	response, body := h.asks(path)
	if response.StatusCode != status || !strings.Contains(body, contains) {
		h.t.Errorf("%s: got status %s, body %.200q; want %d, %q", path, response.Status, body, status, contains)
	}
	return body
}

// dials opens a WebSocket.
func (h *harness) dials(addr string) *testpeer.Peer {
	h.t.Helper()
	return testpeer.Dial(h.t, "tcp", addr).Upgrades()
}

// says sends bytes and expects an answer.
func (h *harness) says(p *testpeer.Peer, bytes, answer string) {
	h.t.Helper()
	p.Sends(bytes)
	p.Wants(answer, "echo")
}

const (
	maskedHello = testpeer.MaskedHello
	hello       = testpeer.Hello
)

// hangingHarness returns a harness with a pool in which one worker hangs.
func hangingHarness(t *testing.T) *harness {
	t.Helper()
	var once sync.Once
	stuck, free := make(chan bool), make(chan bool)
	h := newHarnessWith(t, func(s *Server) { s.limits.listTimeout = time.Second }, func(cfg *pool.Config) {
		cfg.OnConn = func(pool.ConnEvent) { once.Do(func() { close(stuck); <-free }) }
	})
	t.Cleanup(func() { close(free) }) // runs before the cleanup of newHarness
	c, err := net.Dial("tcp", h.front)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	<-stuck
	return h
}

// The index links to every page, and every link works.
func TestIndexLinksToEveryPage(t *testing.T) {
	h := newHarness(t)
	index := h.wants("/", http.StatusOK, "1.2.3")
	links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(index, -1)
	linked := map[string]bool{}
	for _, l := range links {
		path := l[1]
		linked[path] = true
		status := http.StatusOK
		switch path {
		case "/echo":
			status = http.StatusUpgradeRequired
		case "/debug/pprof/profile", "/debug/pprof/trace":
			path += "?seconds=1"
		}
		h.wants(path, status, "")
	}
	for _, p := range h.server.pages {
		if !linked[p.path] && p.path != "/debug/pprof/symbol" {
			t.Errorf("the index has no link to %s", p.path)
		}
	}
	h.wants("/nothing", http.StatusNotFound, "")
	h.wants("/debug/pprof/goroutine?debug=2", http.StatusOK, "(*worker).run")
}

func TestVersion(t *testing.T) {
	h := newHarness(t)
	var v Version
	if err := json.Unmarshal([]byte(h.wants("/version", http.StatusOK, "")), &v); err != nil || v != h.server.cfg.Version {
		t.Errorf("got %+v, error %v; want %+v", v, err, h.server.cfg.Version)
	}
}

func TestHealth(t *testing.T) {
	h := newHarness(t)
	h.wants("/healthz", http.StatusOK, "ok")
	h.wants("/readyz", http.StatusOK, "ready")
	h.wants("/readyz?verbose&now=1", http.StatusOK, "ready") // parameters are ignored
}

// The response of /healthz names a worker that hangs, and /metrics still has all metrics that do
// not depend on it.
func TestHangingWorkerIsNamed(t *testing.T) {
	h := hangingHarness(t)
	began := time.Now()
	h.wants("/healthz", http.StatusServiceUnavailable, "worker ")
	metrics := h.wants("/metrics", http.StatusOK, "go_goroutines")
	if took := time.Since(began); took > 2*answerTimeout+soon/2 {
		t.Errorf("the responses took %v, want at most %v", took, 2*answerTimeout+soon/2)
	}
	if !strings.Contains(metrics, "wsecho_build_info") || strings.Contains(metrics, "wsecho_connections") {
		t.Error("got sums over the workers or no build info, want only metrics that do not depend on the workers")
	}
}

func TestReadiness(t *testing.T) {
	h := newHarness(t, func(cfg *pool.Config) { cfg.MaxConns = 1 })
	c := h.dials(h.front)
	h.wants("/readyz", http.StatusServiceUnavailable, "full")
	c.Close()
	for end := time.Now().Add(soon); h.pool.Full() && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	h.wants("/readyz", http.StatusOK, "ready")
	h.pool.Shutdown(0)
	h.wants("/readyz", http.StatusServiceUnavailable, "draining")
	h.wants("/healthz", http.StatusOK, "ok")
	h.wants("/metrics", http.StatusOK, "wsecho_draining 1\n")
}

// A profile takes as long as requested, even if that is longer than the write timeout.
func TestProfileMayExceedWriteTimeout(t *testing.T) {
	h := newHarnessWith(t, func(s *Server) { s.http.WriteTimeout = answerTimeout })
	_, body := h.asks("/debug/pprof/profile?seconds=2")
	if !strings.HasPrefix(body, "\x1f\x8b") {
		t.Errorf("got %.100q, want a gzipped profile", body)
	}
}

func TestSlowRequestTimesOut(t *testing.T) {
	h := newHarness(t)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HT")
	c.SetReadDeadline(time.Now().Add(soon))
	if got, err := io.ReadAll(c); err != nil {
		t.Errorf("got %q, error %v; want EOF", got, err)
	}
}

func TestEcho(t *testing.T) {
	h := newHarness(t)
	c := h.dials(h.addr)
	c.Sends(testpeer.MaskedHello)
	c.Wants(testpeer.Hello, "echo")
	h.wants("/echo", http.StatusUpgradeRequired, "connect with a WebSocket client")
}

// Close returns although there is an idle connection, and is not reported as a failure.
func TestCloseReturns(t *testing.T) {
	h := newHarness(t)
	idle, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	done := make(chan bool)
	go func() { h.server.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatal("timed out waiting for Close")
	}
	select {
	case err := <-h.server.Failed():
		t.Errorf("Failed received %v, want nothing", err)
	default:
	}
}

// Failed receives the error of a listener.
func TestListenerFailureIsReported(t *testing.T) {
	h := newHarness(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Start([]net.Listener{l}, h.server.cfg)
	defer s.Close()
	l.Close()
	select {
	case err := <-s.Failed():
		if err == nil {
			t.Error("Failed received nil, want an error")
		}
	case <-time.After(soon):
		t.Error("timed out waiting for Failed")
	}
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, why string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for: %s", why)
		}
	}
}
