package hijack

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
	"wsecho/internal/testpeer"
)

const soon = 10 * time.Second // timeout of everything that a test waits for

// A harness is a pool with its own listener and a net/http server whose handler adds to the pool.
type harness struct {
	t     testing.TB
	pool  *pool.Pool
	front string // address of the pool's listener
	side  string // address of the net/http server
}

func newHarness(t testing.TB, changes ...func(*pool.Config)) *harness {
	t.Helper()
	h := newPoolHarness(t, changes...)
	server := httptest.NewServer(h.handler)
	t.Cleanup(server.Close)
	h.side = server.Listener.Addr().String()
	return h.harness
}

// A poolHarness is a harness without the net/http server.
type poolHarness struct {
	*harness
	handler *Handler
}

func newPoolHarness(t testing.TB, changes ...func(*pool.Config)) poolHarness {
	t.Helper()
	cfg := pool.Config{
		Workers: 2, MaxConns: 20_000, MaxFDs: 20_000,
		BufferSize: 64 << 10, BufferBudget: 16 << 20,
		HandshakeTimeout: soon, WriteTimeout: soon, CloseTimeout: soon, LingerTimeout: 2 * time.Second,
		Echo: echo.Config{MaxHeader: 8 << 10, AnySubprotocol: true, AnyOrigin: true, Now: time.Now},
		Log:  slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, change := range changes {
		change(&cfg)
	}
	l, err := netpoll.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(cfg, []netpoll.Listener{l})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(func() {
		p.Shutdown(0)
		p.Close()
	})
	return poolHarness{&harness{t: t, pool: p, front: l.Addr.String()}, New(p, cfg.Echo)}
}

func dials(t testing.TB, network, addr string) *testpeer.Peer {
	t.Helper()
	return testpeer.Dial(t, network, addr)
}

const (
	request     = testpeer.Request
	maskedHello = testpeer.MaskedHello
	hello       = testpeer.Hello
	maskedClose = "\x88\x82\x00\x00\x00\x00\x03\xe8"
	closed      = "\x88\x02\x03\xe8"
)

func TestEcho(t *testing.T) {
	h := newHarness(t)
	p := dials(t, "tcp", h.side)
	p.Sends(request)
	p.WantsUpgrade()
	p.Sends(maskedHello)
	p.Wants(hello, "echo")
	p.Sends(maskedClose)
	p.Wants(closed, "close reply")
	p.WantsEnd()
	c := counters(t, h.pool)
	if c.Adopted != 1 || c.Upgraded != 1 || c.Accepted != 0 || c.BytesIn != uint64(len(maskedHello+maskedClose)) {
		t.Errorf("got counters %+v, want one adopted connection", c)
	}
}

// Frames in the same segment as the request, which net/http has buffered, are echoed.
func TestFramesInSegmentOfRequest(t *testing.T) {
	h := newHarness(t)
	p := dials(t, "tcp", h.side)
	p.Sends(request + maskedHello + maskedHello[:4])
	p.WantsUpgrade()
	p.Wants(hello, "echo of the complete frame")
	p.Sends(maskedHello[4:])
	p.Wants(hello, "echo of the incomplete frame")
}

// More frames than net/http buffers are all echoed.
func TestManyFramesAfterRequest(t *testing.T) {
	h := newHarness(t)
	p := dials(t, "tcp", h.side)
	const n = 10_000
	go p.Sends(request + strings.Repeat(maskedHello, n))
	p.WantsUpgrade()
	p.Wants(strings.Repeat(hello, n), "echo of all frames")
}

func TestSubprotocol(t *testing.T) {
	h := newHarness(t, func(cfg *pool.Config) {
		cfg.Echo.AnySubprotocol, cfg.Echo.Subprotocols = false, []string{"chat", "superchat"}
	})
	p := dials(t, "tcp", h.side)
	p.Sends(strings.Replace(request, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: other, superchat\r\nSec-WebSocket-Protocol: chat\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1))
	r := p.WantsUpgrade()
	if got := r.Header.Get("Sec-WebSocket-Protocol"); got != "superchat" || r.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("got subprotocol %q and extensions %q, want superchat and none", got, r.Header.Get("Sec-WebSocket-Extensions"))
	}
}

// The listener and the handler answer every request alike, unless net/http refuses it itself.
func TestListenerAndHandlerApplySameRules(t *testing.T) {
	admitted, err := echo.ParseOrigin("example.com")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(cfg *pool.Config) { cfg.Echo.AnyOrigin, cfg.Echo.Origins = false, []echo.Origin{admitted} })
	with := func(old, new string) string {
		if !strings.Contains(request, old) {
			t.Fatal(old)
		}
		return strings.Replace(request, old, new, 1)
	}
	end := "\r\n\r\n"
	for name, c := range map[string]struct {
		request string
		itself  bool // net/http refuses it itself, with the same status
	}{
		"good":                       {request, false},
		"lists":                      {with("Connection: Upgrade", "Connection: keep-alive\r\nConnection: foo, Upgrade"), false},
		"upgrade list":               {with("Upgrade: websocket", "Upgrade: h2c, WebSocket"), false},
		"absolute target":            {with("/echo", "http://test/echo"), false},
		"origin":                     {with(end, "\r\nOrigin: https://example.com"+end), false},
		"not asked":                  {"GET /echo HTTP/1.1\r\nHost: test\r\n\r\n", false},
		"another origin":             {with(end, "\r\nOrigin: https://example.org"+end), false},
		"two origins":                {with(end, "\r\nOrigin: https://example.com\r\nOrigin: https://example.com"+end), false},
		"no upgrade":                 {with("Upgrade: websocket\r\n", ""), false},
		"another upgrade":            {with("Upgrade: websocket", "Upgrade: h2c"), false},
		"no connection":              {with("Connection: Upgrade\r\n", ""), false},
		"no version":                 {with("Sec-WebSocket-Version: 13\r\n", ""), false},
		"another version":            {with("Version: 13", "Version: 8"), false},
		"what is no version":         {with("Version: 13", "Version: x"), false},
		"two versions":               {with("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"), false},
		"no key":                     {with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), false},
		"short key":                  {with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), false},
		"key that is not base64":     {with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ?=="), false},
		"two keys":                   {with(end, "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="+end), false},
		"subprotocol of no token":    {with(end, "\r\nSec-WebSocket-Protocol: a b"+end), false},
		"malformed extension":        {with(end, "\r\nSec-WebSocket-Extensions: ;;"+end), false},
		"two versions that differ":   {with("Version: 13", "Version: 8\r\nSec-WebSocket-Version: 13"), false},
		"version with a zero":        {with("Version: 13", "Version: 013"), false},
		"no members in extensions":   {with(end, "\r\nSec-WebSocket-Extensions: ,"+end), false},
		"extension without comma":    {with(end, "\r\nSec-WebSocket-Extensions: x y"+end), false},
		"extension of no token":      {with(end, "\r\nSec-WebSocket-Extensions: x; y=\"c d\""+end), false},
		"second extension":           {with(end, "\r\nSec-WebSocket-Extensions: x\r\nSec-WebSocket-Extensions: y;"+end), false},
		"extensions with tabs":       {with(end, "\r\nSec-WebSocket-Extensions: x\t;\ty"+end), false},
		"subprotocols with gaps":     {with(end, "\r\nSec-WebSocket-Protocol: ,, a\t,"+end), false},
		"empty subprotocols, others": {with(end, "\r\nSec-WebSocket-Protocol:\r\nSec-WebSocket-Protocol: a"+end), false},
		"empty subprotocols":         {with(end, "\r\nSec-WebSocket-Protocol:"+end), false},
		"subprotocol twice":          {with(end, "\r\nSec-WebSocket-Protocol: a, a"+end), false},
		"subprotocol on two lines":   {with(end, "\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: b"+end), false},
		"null origin":                {with(end, "\r\nOrigin: null"+end), false},
		"malformed origin":           {with(end, "\r\nOrigin: example.com"+end), false},
		"h2c":                        {"GET /echo HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", false},
		"upgrade to nothing":         {"GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\n\r\n", false},
		"no handshake":               {"GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false},
		"malformed connection":       {with("Connection: Upgrade", "Connection: Upgrade, a/b"), false},
		"malformed upgrade":          {with("Upgrade: websocket", "Upgrade: websocket, a b"), false},
		"half encoded host":          {with("Host: test", "Host: te%st"), false},
		"host with a user":           {with("Host: test", "Host: a@test"), true},
		"host with a port of words":  {with("Host: test", "Host: test:x"), false},
		"host beyond the ports":      {with("Host: test", "Host: test:65536"), false},
		"target without host":        {with("/echo", "http:///echo"), false},
		"target with a port alone":   {with("/echo", "http://:80/echo"), false},
		"target with a user":         {with("/echo", "http://user@test/echo"), false},
		"target beyond the ports":    {with("/echo", "http://test:65536/echo"), false},
		"target of another scheme":   {with("/echo", "ftp://test/echo"), false},
		"target with a fragment":     {with("/echo", "/echo#x"), false},
		"target with another host":   {with("/echo", "http://other/echo"), false},
		"longest allowed":            {with(end, "\r\nCookie: "+strings.Repeat("x", 8<<10-len(request)-len("Cookie: \r\n"))+end), false},
		"one byte longer":            {with(end, "\r\nCookie: "+strings.Repeat("x", 8<<10-len(request)-len("Cookie: \r\n")+1)+end), false},
		"much longer":                {with(end, "\r\nCookie: "+strings.Repeat("x", 100<<10)+end), false},
		"target with a bad port":     {with("/echo", "http://test:x/echo"), true},
		"half encoded path":          {with("/echo", "/%zz"), true},
		"POST":                       {with("GET", "POST"), false},
		"HTTP/1.0":                   {with("HTTP/1.1", "HTTP/1.0"), false},
		"a body":                     {with(end, "\r\nContent-Length: 3"+end+"abc"), false},
		"a chunked body":             {with(end, "\r\nTransfer-Encoding: chunked"+end+"0\r\n\r\n"), false},
		"no host":                    {with("Host: test\r\n", ""), true},
		"two hosts":                  {with("Host: test", "Host: test\r\nHost: test"), true},
		"malformed host":             {with("Host: test", "Host: te st"), true},
		"space before a colon":       {with("Host:", "Host :"), true},
		"no request line":            {"hello\r\n\r\n", true},
		"another version of HTTP":    {with("HTTP/1.1", "HTTP/3.0"), true},
		"control byte in a field":    {with("Host: test", "Host: test\r\nX: a\x01b"), true},
		"malformed request target":   {with("/echo", "echo"), true},
	} {
		t.Run(name, func(t *testing.T) {
			var answers [2]*http.Response
			var bodies [2]string
			for i, addr := range []string{h.front, h.side} {
				p := dials(t, "tcp", addr)
				p.Sends(c.request)
				answers[i], bodies[i] = p.Response()
				p.Close()
			}
			front, side := answers[0], answers[1]
			if front.StatusCode != side.StatusCode {
				t.Fatalf("got status %s from the listener and %s from the handler, bodies %q and %q", front.Status, side.Status, bodies[0], bodies[1])
			}
			if c.itself {
				return
			}
			if bodies[0] != bodies[1] {
				t.Errorf("got body %q from the listener and %q from the handler, want the same", bodies[0], bodies[1])
			}
			for _, field := range []string{"Upgrade", "Allow", "Sec-WebSocket-Version", "Sec-WebSocket-Accept"} {
				if front.Header.Get(field) != side.Header.Get(field) {
					t.Errorf("%s: got %q from the listener and %q from the handler, want the same", field, front.Header.Get(field), side.Header.Get(field))
				}
			}
			if front.Close != side.Close {
				t.Errorf("Close: got %v from the listener and %v from the handler, want the same", front.Close, side.Close)
			}
		})
	}
}

// net/http accepts a field that continues on the next line (obs-fold). RFC 9112, section 5.2, lets
// a server accept or refuse it. The pool's listener refuses it; the handler cannot, since the
// parsed request does not show it.
func TestNetHTTPAcceptsContinuedField(t *testing.T) {
	h := newHarness(t)
	folded := strings.Replace(request, "Upgrade: websocket", "Upgrade:\r\n websocket", 1)
	front, side := dials(t, "tcp", h.front), dials(t, "tcp", h.side)
	front.Sends(folded)
	front.WantsRefusal(http.StatusBadRequest, "malformed header field")
	side.Sends(folded)
	side.WantsUpgrade()
}

func TestConnectionOverLimitIsRefused(t *testing.T) {
	limits := map[string]struct {
		change func(*pool.Config)
		reason string
	}{
		"full":   {func(cfg *pool.Config) { cfg.MaxConns = 2 }, echo.RefuseFull.Reason},
		"per ip": {func(cfg *pool.Config) { cfg.MaxConnsPerIP = 2 }, echo.RefusePerIP.Reason},
	}
	for name, c := range limits {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, c.change)
			for range 2 {
				p := dials(t, "tcp", h.side)
				p.Sends(request)
				p.WantsUpgrade()
			}
			p := dials(t, "tcp", h.side)
			p.Sends(request)
			p.WantsRefusal(http.StatusServiceUnavailable, c.reason)
			// A handshake is counted after its response has been sent.
			counted := func(s pool.Counters) bool {
				return s.RefusedFull+s.RefusedPerIP == 1 && s.Codes[503] == 1 && s.Upgraded == 2 && h.pool.Open() == 2
			}
			for end := time.Now().Add(soon); !counted(counters(t, h.pool)); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("got counters %+v, want 2 upgraded and 1 refused", counters(t, h.pool))
				}
			}
		})
	}
}

// Without a free descriptor the connection cannot be duplicated, and is refused with 503.
func TestRefusesWithoutDescriptors(t *testing.T) {
	h := newPoolHarness(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
			return
		}
		none := unix.Rlimit{Cur: 1, Max: limit.Max} // open descriptors stay open
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
			t.Error(err)
			return
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		h.handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	p := dials(t, "tcp", server.Listener.Addr().String())
	p.Sends(request)
	p.WantsRefusal(http.StatusServiceUnavailable, echo.RefuseFull.Reason)
	if n := counters(t, h.pool).Codes[http.StatusServiceUnavailable]; n != 1 {
		t.Errorf("got %d refusals counted, want 1", n)
	}
}

// A descriptor for which the pool has no slot is refused with 503.
func TestRefusesDescriptorWithoutSlot(t *testing.T) {
	h := newHarness(t, func(cfg *pool.Config) { cfg.MaxFDs = 1 })
	p := dials(t, "tcp", h.side)
	p.Sends(request)
	p.WantsRefusal(http.StatusServiceUnavailable, echo.RefuseFull.Reason)
	if s := counters(t, h.pool); s.RefusedFull != 1 || s.Codes[http.StatusServiceUnavailable] != 1 {
		t.Errorf("got counters %+v, want 1 refused", s)
	}
}

// An exposed connection exposes the descriptor fd, or fails with err.
type exposed struct {
	net.Conn
	fd  uintptr
	err error
}

func (c exposed) SyscallConn() (syscall.RawConn, error) { return control(c), nil }

type control exposed

func (control) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (control) Write(func(uintptr) bool) error { return errors.ErrUnsupported }
func (c control) Control(f func(uintptr)) error {
	if c.err == nil {
		f(c.fd)
	}
	return c.err
}

// If duplicate fails, it returns the error and leaves no descriptor open.
func TestDuplicateReportsErrorsWithoutLeak(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, c := range map[string]struct {
		conn net.Conn
		want error
	}{
		"closed connection":               {exposed{fd: file.Fd(), err: net.ErrClosed}, net.ErrClosed},
		"invalid descriptor":              {exposed{fd: 1 << 30}, unix.EBADF},
		"descriptor that is not a socket": {exposed{fd: file.Fd()}, unix.ENOTSOCK},
	} {
		t.Run(name, func(t *testing.T) {
			before := counts(t)
			fd, err := duplicate(c.conn)
			if !errors.Is(err, c.want) || fd != -1 {
				t.Errorf("got descriptor %d, error %v; want -1, %v", fd, err, c.want)
			}
			if after := counts(t); after.descriptors != before.descriptors {
				t.Errorf("got %d open descriptors, want %d as before", after.descriptors, before.descriptors)
			}
		})
	}
}

func TestRefusesWhileShuttingDown(t *testing.T) {
	h := newHarness(t)
	h.pool.Shutdown(soon)
	p := dials(t, "tcp", h.side)
	p.Sends(request)
	p.WantsRefusal(http.StatusServiceUnavailable, "shutting down")
}

// Shutdown sends a close frame with code 1001 to adopted connections, too.
func TestShutdownClosesAdoptedConnections(t *testing.T) {
	h := newHarness(t)
	p := dials(t, "tcp", h.side)
	p.Sends(request)
	p.WantsUpgrade()
	go h.pool.Shutdown(soon)
	p.Wants("\x88\x1d\x03\xe9the server is shutting down", "close frame")
	p.Sends("\x88\x82\x00\x00\x00\x00\x03\xe9")
}

func TestRefusesTLS(t *testing.T) {
	h := newPoolHarness(t)
	server := httptest.NewTLSServer(h.handler)
	defer server.Close()
	c, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := testpeer.New(t, c)
	p.Sends(request)
	p.WantsRefusal(http.StatusNotImplemented, "TLS")
	if n := counters(t, h.pool).Codes[http.StatusNotImplemented]; n != 1 {
		t.Errorf("got %d refusals counted, want 1", n)
	}
}

// An opaque listener returns connections that do not expose their descriptor.
type opaque struct{ net.Listener }

func (o opaque) Accept() (net.Conn, error) {
	c, err := o.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

func TestRefusesConnectionWithoutDescriptor(t *testing.T) {
	h := newPoolHarness(t)
	server := httptest.NewUnstartedServer(h.handler)
	server.Listener = opaque{server.Listener}
	server.Start()
	defer server.Close()
	p := dials(t, "tcp", server.Listener.Addr().String())
	p.Sends(request)
	p.WantsRefusal(http.StatusNotImplemented, "descriptor")
}

func TestRefusesWriterThatCannotBeHijacked(t *testing.T) {
	h := newPoolHarness(t)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "response writer") {
		t.Errorf("got status %d, body %q; want 500 because of the response writer", w.Code, w.Body)
	}
	if n := counters(t, h.pool).Codes[http.StatusInternalServerError]; n != 1 {
		t.Errorf("got %d refusals counted, want 1", n)
	}
}

func TestUnixSocket(t *testing.T) {
	h := newPoolHarness(t)
	path := t.TempDir() + "/socket"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: h.handler}
	go server.Serve(l)
	defer server.Close()
	p := dials(t, "unix", path)
	p.Sends(request + maskedHello)
	p.WantsUpgrade()
	p.Wants(hello, "echo")
}

// resources counts the process's goroutines, its descriptors, and the descriptors in all of its
// epolls.
type resources struct{ goroutines, descriptors, watched int }

func counts(t testing.TB) (s resources) {
	t.Helper()
	s.goroutines = runtime.NumGoroutine()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil {
			continue // ReadDir has closed its own descriptor
		}
		s.descriptors++
		s.watched += strings.Count("\n"+string(info), "\ntfd:")
	}
	return s
}

// An adopted connection has one descriptor in one epoll, and no goroutine. Nothing remains of a
// connection that has ended.
func TestNetHTTPReleasesConnection(t *testing.T) {
	const n = 100
	h := newHarness(t)
	warm := dials(t, "tcp", h.side)
	warm.Sends(request + maskedHello)
	warm.WantsUpgrade()
	warm.Wants(hello, "echo, so that a worker watches the connection")
	before := counts(t)
	var peers []*testpeer.Peer
	for range n {
		p := dials(t, "tcp", h.side)
		p.Sends(request + maskedHello)
		p.WantsUpgrade()
		p.Wants(hello, "echo")
		peers = append(peers, p)
	}
	// The peers are in this process, too: each has a descriptor, which Go's poller watches.
	with := resources{before.goroutines, before.descriptors + 2*n, before.watched + 2*n}
	wantsCounts(t, "with all connections open", with)
	for _, p := range peers {
		p.Close()
	}
	wantsCounts(t, "after all connections have ended", before)
}

func wantsCounts(t *testing.T, when string, want resources) {
	t.Helper()
	var got resources
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(time.Millisecond) {
		// There may be fewer goroutines than before, because some were about to end.
		if got = counts(t); got.goroutines <= want.goroutines && got.descriptors == want.descriptors && got.watched == want.watched {
			return
		}
	}
	t.Errorf("%s: got %+v, want %+v", when, got, want)
}

// If the pool shuts down while clients connect, every client that was answered 101 receives a close
// frame with code 1001.
func TestShutdownUnderLoadClosesWith1001(t *testing.T) {
	h := newHarness(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 8)
	for range cap(done) {
		go func() { done <- reconnects(ctx, h.side) }()
	}
	for counters(t, h.pool).Adopted < 50 {
		time.Sleep(time.Millisecond)
	}
	h.pool.Shutdown(soon)
	cancel()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// reconnects connects again and again, until the server is shutting down.
func reconnects(ctx context.Context, addr string) error {
	for {
		over, err := connectsOnce(ctx, addr)
		if over || err != nil {
			return err
		}
	}
}

// connectsOnce connects and reports whether the server is shutting down: it answers 503, or closes
// with 1001.
func connectsOnce(ctx context.Context, addr string) (over bool, err error) {
	c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), "tcp", addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(c, request+maskedHello); err != nil {
		return false, err
	}
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, fmt.Errorf("no response: %w", err)
	}
	if response.StatusCode == http.StatusServiceUnavailable {
		return true, nil
	}
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return false, fmt.Errorf("after 101: %w", err)
	}
	return frame[0] == 0x88 && frame[2] == 0x03 && frame[3] == 0xe9, nil
}
