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

const soon = 10 * time.Second // longer than anything here takes that happens at all

// harness is a pool and its admin server.
type harness struct {
	t      testing.TB
	pool   *pool.Pool
	server *Server
	front  string // where connections come to
	addr   string // where operators ask
}

func opens(t testing.TB, changes ...func(*pool.Config)) *harness {
	t.Helper()
	return opensWith(t, func(*Server) {}, changes...)
}

// opensWith has an admin server that is tuned before it starts.
func opensWith(t testing.TB, tune func(*Server), changes ...func(*pool.Config)) *harness {
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
	o := &harness{t: t, pool: p, front: front.Addr.String(), addr: l.Addr().String()}
	o.server = newServer(Config{
		Pool: p, Echo: hijack.New(p, cfg.Echo), Log: cfg.Log, LogLost: func() uint64 { return 7 },
		Version: Version{Number: "1.2.3", Commit: "abc", Go: "go1.26", OS: "linux", Arch: "amd64"},
	})
	o.server.http.ReadHeaderTimeout = 500 * time.Millisecond
	tune(o.server)
	o.server.start(l)
	t.Cleanup(func() {
		p.Shutdown(0)
		o.server.Close()
		p.Close()
	})
	return o
}

// asks asks, and does not keep the connection.
func (o *harness) asks(path string) (*http.Response, string) {
	o.t.Helper()
	response, body, err := o.get(path)
	if err != nil {
		o.t.Fatalf("%s: %v", path, err)
	}
	return response, body
}

func (o *harness) get(path string) (*http.Response, string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * soon}
	response, err := client.Get("http://" + o.addr + path)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func (o *harness) wants(path string, status int, contains string) string {
	o.t.Helper()
	response, body := o.asks(path)
	if response.StatusCode != status || !strings.Contains(body, contains) {
		o.t.Errorf("%s: %s, %.200q; want %d, %q", path, response.Status, body, status, contains)
	}
	return body
}

// dials opens a WebSocket.
func (o *harness) dials(addr string) *testpeer.Peer {
	o.t.Helper()
	return testpeer.Dial(o.t, "tcp", addr).Upgrades()
}

// says sends and expects an answer.
func (o *harness) says(p *testpeer.Peer, bytes, answer string) {
	o.t.Helper()
	p.Sends(bytes)
	p.Wants(answer, "an answer")
}

const (
	maskedHello = testpeer.MaskedHello
	hello       = testpeer.Hello
)

// stuck is a pool one of whose workers hangs as soon as it has a connection.
func stuck(t *testing.T) *harness {
	t.Helper()
	var once sync.Once
	stuck, free := make(chan bool), make(chan bool)
	o := opensWith(t, func(s *Server) { s.limits.listTimeout = time.Second }, func(cfg *pool.Config) {
		cfg.OnConn = func(pool.ConnEvent) { once.Do(func() { close(stuck); <-free }) }
	})
	t.Cleanup(func() { close(free) }) // comes before that of opens
	c, err := net.Dial("tcp", o.front)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	<-stuck
	return o
}

// The index links to everything, and what it links to is there.
func TestIndex(t *testing.T) {
	o := opens(t)
	index := o.wants("/", http.StatusOK, "1.2.3")
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
		o.wants(path, status, "")
	}
	for _, p := range o.server.pages {
		if !linked[p.path] && p.path != "/debug/pprof/symbol" {
			t.Errorf("%s is not linked", p.path)
		}
	}
	o.wants("/nothing", http.StatusNotFound, "")
	o.wants("/debug/pprof/goroutine?debug=2", http.StatusOK, "(*worker).run")
}

func TestVersion(t *testing.T) {
	o := opens(t)
	var v Version
	if err := json.Unmarshal([]byte(o.wants("/version", http.StatusOK, "")), &v); err != nil || v != o.server.cfg.Version {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestHealth(t *testing.T) {
	o := opens(t)
	o.wants("/healthz", http.StatusOK, "ok")
	o.wants("/readyz", http.StatusOK, "ready")
	o.wants("/readyz?verbose&now=1", http.StatusOK, "ready") // probes add what they like
}

// A worker that hangs is named, and what can be known without it still is.
func TestWorkerHangs(t *testing.T) {
	o := stuck(t)
	began := time.Now()
	o.wants("/healthz", http.StatusServiceUnavailable, "worker ")
	metrics := o.wants("/metrics", http.StatusOK, "go_goroutines")
	if took := time.Since(began); took > 2*answerTimeout+soon/2 {
		t.Errorf("it took %v to find out", took)
	}
	if !strings.Contains(metrics, "wsecho_build_info") || strings.Contains(metrics, "wsecho_connections") {
		t.Error("without one worker's figures the sums are not known, the rest is")
	}
}

func TestReadiness(t *testing.T) {
	o := opens(t, func(cfg *pool.Config) { cfg.MaxConns = 1 })
	c := o.dials(o.front)
	o.wants("/readyz", http.StatusServiceUnavailable, "full")
	c.Close()
	for end := time.Now().Add(soon); o.pool.Full() && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	o.wants("/readyz", http.StatusOK, "ready")
	o.pool.Shutdown(0)
	o.wants("/readyz", http.StatusServiceUnavailable, "draining")
	o.wants("/healthz", http.StatusOK, "ok")
	o.wants("/metrics", http.StatusOK, "wsecho_draining 1\n")
}

// A profile takes as long as it is asked to, although answers have a time limit that is shorter.
func TestLongProfile(t *testing.T) {
	o := opensWith(t, func(s *Server) { s.http.WriteTimeout = answerTimeout })
	_, body := o.asks("/debug/pprof/profile?seconds=2")
	if !strings.HasPrefix(body, "\x1f\x8b") {
		t.Errorf("%.100q is no profile", body)
	}
}

// Who is slow to ask does not keep a connection for ever.
func TestSlowRequest(t *testing.T) {
	o := opens(t)
	c, err := net.Dial("tcp", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HT")
	c.SetReadDeadline(time.Now().Add(soon))
	if got, err := io.ReadAll(c); err != nil {
		t.Errorf("%q, %v: want the end of the connection", got, err)
	}
}

func TestEcho(t *testing.T) {
	o := opens(t)
	c := o.dials(o.addr)
	c.Sends(testpeer.MaskedHello)
	c.Wants(testpeer.Hello, "an echo")
	o.wants("/echo", http.StatusUpgradeRequired, "connect with a WebSocket client")
}

// Requests that are being answered are answered, and then it is over.
func TestClose(t *testing.T) {
	o := opens(t)
	idle, err := net.Dial("tcp", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	done := make(chan bool)
	go func() { o.server.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatal("it does not close")
	}
	select {
	case err := <-o.server.Failed():
		t.Errorf("it says that it has failed: %v", err)
	default:
	}
}

// A listener that fails is a failure of the server.
func TestListenerFails(t *testing.T) {
	o := opens(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Start([]net.Listener{l}, o.server.cfg)
	defer s.Close()
	l.Close()
	select {
	case err := <-s.Failed():
		if err == nil {
			t.Error("it has failed without a cause")
		}
	case <-time.After(soon):
		t.Error("nobody is told")
	}
}

func waitFor(t *testing.T, why string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s", why)
		}
	}
}
