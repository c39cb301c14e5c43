package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/loadtest/generate"
	"wsecho/loadtest/measure"
	"wsecho/loadtest/report"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// answersRaw returns a behaviour that calls before, responds with a valid 101 and the fields that
// before has returned, and then echoes.
func answersRaw(before func(c *fakeConn, r *http.Request) (more string)) func(*fakeConn) {
	return func(c *fakeConn) {
		r, err := http.ReadRequest(bufio.NewReader(c.Conn))
		if err != nil {
			return
		}
		more := before(c, r)
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
			wire.AcceptKey(r.Header.Get("Sec-WebSocket-Key")), more)
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			c.sends(ws.NewFrame(op, true, p))
		}
	}
}

// A server may send 1xx responses before the 101 (RFC 9110, section 15.2).
func TestInterimResponses(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
	for name, before := range map[string]string{
		"100":            "HTTP/1.1 100 Continue\r\n\r\n",
		"no reason":      "HTTP/1.1 100\r\n\r\n",
		"102":            "HTTP/1.1 102 Processing\r\n\r\n",
		"103":            early,
		"199":            "HTTP/1.1 199 Miscellaneous\r\n\r\n",
		"one of each":    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + early,
		"as many as fit": strings.Repeat(early, (wire.LongestResponse-300)/len(early)),
	} {
		for how, send := range map[string]func(c *fakeConn){
			"together": func(c *fakeConn) { io.WriteString(c, before) },
			"byte by byte": func(c *fakeConn) {
				byteByByte(c, before[:min(len(before), 400)])
				io.WriteString(c, before[min(len(before), 400):])
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				s := startFake(t, answersRaw(func(c *fakeConn, _ *http.Request) string { send(c); return "" }))
				r := wsload(t, s.url)
				r.wantErrors()
				r.wantMessages()
				if r.Handshake.Count != 3 || r.status != exitMeasured {
					t.Errorf("got %d handshakes, exit status %d; want 3 and 0", r.Handshake.Count, r.status)
				}
			})
		}
	}
	answers := func(response string) func(*fakeConn) {
		return func(c *fakeConn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, response)
			io.Copy(io.Discard, c)
		}
	}
	for _, x := range []struct{ response, want string }{
		{early + "HTTP/1.1 403 Forbidden\r\n\r\nno", `handshake: connection 0, message 0: the response is "HTTP/1.1 403 Forbidden"`},
		{early + "HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 without Upgrade: websocket"},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n" + early, "101 without Upgrade: websocket"}, // a 101 is final
		{"HTTP/1.1 100 Continue\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 101 x\r\n\r\n", `the response is "bodyHTTP/1.1 101 x"`},
		{"HTTP/1.0 100 Continue\r\n\r\n", `the response is "HTTP/1.0 100 Continue"`},
		{"HTTP/1.1 1000 x\r\n\r\n", `the response is "HTTP/1.1 1000 x"`},
		{"HTTP/1.1 10 x\r\n\r\n", `the response is "HTTP/1.1 10 x"`},
		{strings.Repeat(early, 2*wire.LongestResponse/len(early)), "no end of the response in 16384 bytes"},
		{early, "no response in 0.3 s"},
	} {
		r := wsloadText(t, shortRun(startFake(t, answers(x.response)).url, "-timeout", "300ms", "-connections", "1")...)
		if r.status != exitFailed || !strings.Contains(r.stderr, x.want) {
			t.Errorf("%.60q: got exit status %d, %q; want %q", x.response, r.status, r.stderr, x.want)
		}
	}
}

// 1xx responses do not extend the timeout of the handshake.
func TestInterimResponsesDoNotExtendTheTimeout(t *testing.T) {
	s := startFake(t, func(c *fakeConn) {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	r := wsloadText(t, shortRun(s.url, "-timeout", "300ms", "-connections", "1")...)
	if r.status != exitFailed || !strings.Contains(r.stderr, "no response in 0.3 s") {
		t.Errorf("got exit status %d, %q", r.status, r.stderr)
	}
}

func byteByByte(w io.Writer, text string) {
	for i := range len(text) {
		io.WriteString(w, text[i:i+1])
	}
}

// greets returns a behaviour that sends frames before it echoes.
func greets(frames ...ws.Frame) func(*fakeConn) {
	return func(c *fakeConn) {
		c.upgrades()
		c.sends(frames...)
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			if op != ws.OpPong {
				c.sends(ws.NewFrame(op, true, p))
			}
		}
	}
}

// Well-known echo servers send a message first on every connection. With -greeting, wsload expects
// it in every mode.
func TestGreetingIsExpectedInEveryMode(t *testing.T) {
	hello := ws.NewTextFrame([]byte("Request served by 1781505b56ee58"))
	one := startFake(t, greets(hello))
	for name, args := range everyMode {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := wsload(t, one.url, append(args, "-greeting")...)
			r.wantErrors()
			if r.status != exitMeasured || r.Messages == 0 || r.Latency.Count == 0 {
				t.Errorf("got exit status %d, %d messages, %q", r.status, r.Messages, r.stderr)
			}
		})
	}
	for name, x := range map[string]struct {
		arg    string
		behave func(*fakeConn)
	}{
		"number":     {"-greeting 1", greets(hello)},
		"with =":     {"-greeting=1", greets(hello)},
		"none":       {"-greeting 0", greets()},
		"false":      {"-greeting=false", greets()},
		"two":        {"-greeting 2", greets(hello, ws.NewBinaryFrame([]byte{0}))},
		"empty":      {"--greeting", greets(ws.NewTextFrame(nil))},
		"fragments":  {"-greeting", greets(ws.NewFrame(ws.OpText, false, []byte("Re")), ws.NewFrame(ws.OpContinuation, true, []byte("quest")))},
		"with pings": {"-greeting", greets(ws.NewPingFrame([]byte("?")), ws.NewFrame(ws.OpText, false, []byte("Re")), ws.NewPingFrame(nil), ws.NewFrame(ws.OpContinuation, true, nil))},
		"long":       {"-greeting", greets(ws.NewBinaryFrame(make([]byte, wire.LongestGreeting)))},
		"late": {"-greeting", func(c *fakeConn) {
			c.upgrades()
			time.Sleep(100 * time.Millisecond)
			c.sends(hello)
			for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
				c.sends(ws.NewFrame(op, true, p))
			}
		}},
		"byte by byte": {"-greeting", func(c *fakeConn) {
			c.upgrades()
			for b := range slices.Chunk(ws.MustCompileFrame(hello), 1) {
				c.Write(b)
			}
			for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
				c.sends(ws.NewFrame(op, true, p))
			}
		}},
		"with the response": {"-greeting", func(c *fakeConn) {
			var b bytes.Buffer
			ws.Upgrade(struct {
				io.Reader
				io.Writer
			}{c, &b})
			ws.WriteFrame(&b, hello)
			c.Write(b.Bytes())
			for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
				c.sends(ws.NewFrame(op, true, p))
			}
		}},
		"nothing is sent before it": {"-greeting -rate 1000", func(c *fakeConn) {
			c.upgrades()
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Error("wsload sent a message before the greeting")
			}
			c.SetReadDeadline(time.Now().Add(testTimeout))
			greets(hello)(c.upgraded())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := wsload(t, startFake(t, x.behave).url, strings.Fields(x.arg)...)
			r.wantErrors()
			r.wantMessages()
		})
	}
	t.Setenv("WSLOAD_GREETING", "true")
	if s, err := parse(nil); err != nil || s.greeting != 1 {
		t.Errorf("WSLOAD_GREETING=true: got %v, %v; want 1", s.greeting, err)
	}
}

// The first error says what is wrong with a greeting.
func TestWrongGreeting(t *testing.T) {
	text := func(s string) ws.Frame { return ws.NewTextFrame([]byte(s)) }
	for name, x := range map[string]struct {
		args   string
		kind   stats.Failure
		first  string
		behave func(*fakeConn)
	}{
		"none":                   {"-greeting", stats.TimedOut, "no greeting came in 1 s, and -greeting expects one", greets()},
		"one of two":             {"-greeting 2", stats.TimedOut, "no greeting came in 1 s", greets(text("hi"))},
		"two where one is":       {"-greeting", stats.Unasked, "use -greeting", func(c *fakeConn) { withResponse(c, text("hi"), text("again")) }},
		"one where none is":      {"", stats.Unasked, "if the server sends a greeting first, use -greeting", func(c *fakeConn) { withResponse(c, text("hi")) }},
		"closes instead":         {"-greeting", stats.Closed, "closed with 1013", greets(ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "")))},
		"ends instead":           {"-greeting", stats.Cut, "ended by the server before the greeting", func(c *fakeConn) { c.upgrades() }},
		"masked":                 {"-greeting", stats.Violated, "masked", greets(ws.MaskFrame(text("hi")))},
		"too long":               {"-greeting", stats.Unasked, "a greeting of more than 65536 bytes", greets(ws.NewBinaryFrame(make([]byte, wire.LongestGreeting+1)))},
		"too long, in fragments": {"-greeting", stats.Unasked, "a greeting of more than 65536 bytes", greets(ws.NewFrame(ws.OpText, false, make([]byte, wire.LongestGreeting)), ws.NewFrame(ws.OpContinuation, true, []byte("x")))},
		"half":                   {"-greeting", stats.TimedOut, "no greeting came", greets(ws.NewFrame(ws.OpText, false, []byte("hi")))},
	} {
		for _, mode := range [][]string{{}, {"-mode", "connect"}, {"-rate", "10"}, {"-mode", "idle"}} {
			t.Run(name+" "+strings.Join(mode, " "), func(t *testing.T) {
				t.Parallel()
				var one sync.Once
				s := startFake(t, func(c *fakeConn) { // the other connections behave well, so that there is a report
					wrong := false
					if one.Do(func() { wrong = true }); wrong {
						x.behave(c)
						return
					}
					if strings.Contains(x.args, "2") {
						greets(text("hi"), text("you"))(c)
					} else if x.args != "" {
						greets(text("hi"))(c)
					} else {
						greets()(c)
					}
				})
				r := wsload(t, s.url, append(append(strings.Fields(x.args), mode...), "-timeout", "1s", "-duration", "1500ms", "-connections", "5", "-handshakes", "1")...)
				c := r.Errors.Kinds[x.kind.String()]
				if c.Count != 1 || !strings.Contains(c.First, x.first) || r.status != exitFailed || r.Messages == 0 {
					t.Errorf("got exit status %d, %d messages, %+v; want 1 error of kind %v with %q", r.status, r.Messages, r.Errors, x.kind, x.first)
				}
			})
		}
	}
}

// upgraded marks the connection as upgraded, so that upgrades does nothing.
func (c *fakeConn) upgraded() *fakeConn { c.isUpgraded = true; return c }

// withResponse sends frames in the same segment as the opening response.
func withResponse(c *fakeConn, frames ...ws.Frame) {
	var b bytes.Buffer
	ws.Upgrade(struct {
		io.Reader
		io.Writer
	}{c, &b})
	for _, f := range frames {
		ws.WriteFrame(&b, f)
	}
	c.Write(b.Bytes())
	io.Copy(io.Discard, c)
}

// A greeting is also expected on reopened connections.
func TestGreetingOnReopenedConnections(t *testing.T) {
	s := startFake(t, func(c *fakeConn) {
		c.upgrades()
		c.sends(ws.NewTextFrame([]byte("hi")))
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			if c.n == 3 {
				c.sends(ws.NewCloseFrame(ws.NewCloseFrameBody(1012, "")))
				c.receives()
				return
			}
			c.sends(ws.NewFrame(op, true, p))
		}
	})
	for _, args := range [][]string{{}, {"-rate", "100"}} {
		r := wsload(t, s.url, append(args, "-reopen", "-greeting", "1")...)
		r.wantErrors()
		r.wantMessages()
		if r.Reopened < 3 {
			t.Errorf("reopened %d times, want at least 3", r.Reopened)
		}
	}
}

// The flags' additions to the opening request arrive unchanged. No report contains the user name or
// password.
func TestOpeningRequest(t *testing.T) {
	for name, x := range map[string]struct {
		args []string
		user string // in the URL
		path string
		want func(r *http.Request) bool
	}{
		"nothing": {nil, "", "", func(r *http.Request) bool {
			return len(r.Header) == 4 && r.RequestURI == "/" && r.Header.Get("Authorization") == "" && strings.HasPrefix(r.Host, "127.0.0.1:")
		}},
		"fields": {[]string{"-header", "Cookie: session=1, 2", "-header", "X-Empty:", "-header", "x-twice: a", "-header", "X-Twice: \t b \t"}, "", "", func(r *http.Request) bool {
			return r.Header.Get("Cookie") == "session=1, 2" && slices.Equal(r.Header["X-Empty"], []string{""}) && slices.Equal(r.Header["X-Twice"], []string{"a", "b"})
		}},
		"host":         {[]string{"-header", "host: app.example.com"}, "", "", func(r *http.Request) bool { return r.Host == "app.example.com" }},
		"subprotocols": {[]string{"-subprotocol", "chat,soap"}, "", "", func(r *http.Request) bool { return r.Header.Get("Sec-WebSocket-Protocol") == "chat, soap" }},
		"user": {nil, "me:s%3Acr%20t%C3%A9@", "", func(r *http.Request) bool {
			user, password, ok := r.BasicAuth()
			return ok && user == "me" && password == "s:cr té"
		}},
		"user only": {nil, "token@", "", func(r *http.Request) bool {
			user, password, ok := r.BasicAuth()
			return ok && user == "token" && password == ""
		}},
		"path":          {nil, "", "a%20b/é?q=1 2&x=%22", func(r *http.Request) bool { return r.RequestURI == "/a%20b/%C3%A9?q=1%202&x=%22" }},
		"question mark": {nil, "", "?q", func(r *http.Request) bool { return r.RequestURI == "/?q" }},
		"all together": {[]string{"-header", "Origin: https://app.example.com", "-greeting=0", "-subprotocol", "chat"}, "me:x@", "p", func(r *http.Request) bool {
			return r.Header.Get("Origin") != "" && r.Header.Get("Authorization") != "" && r.RequestURI == "/p"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var wrong sync.Map
			s := startFake(t, answersRaw(func(c *fakeConn, r *http.Request) string {
				if !x.want(r) {
					wrong.Store(fmt.Sprintf("%s %s %q", r.RequestURI, r.Host, r.Header), true)
				}
				if offer := r.Header.Get("Sec-WebSocket-Protocol"); offer != "" {
					return "Sec-WebSocket-Protocol: chat\r\n"
				}
				return ""
			}))
			address := strings.TrimSuffix(strings.TrimPrefix(s.url, "ws://"), "/")
			html := filepath.Join(t.TempDir(), "report.html")
			// The URL is an argument between the flags.
			args := append([]string{"-connections", "2", "-warmup", "0s", "-html", html}, x.args...)
			args = append(args, "ws://"+x.user+address+"/"+x.path, "-duration", "100ms")
			text, asJSON := wsloadText(t, args...), wsloadText(t, append(args, "-json")...)
			wrong.Range(func(request, _ any) bool { t.Error(request); return true })
			page, err := os.ReadFile(html)
			if err != nil || text.status != exitMeasured || asJSON.status != exitMeasured {
				t.Fatal(text.status, text.stderr, asJSON.stderr, err)
			}
			for _, report := range []string{text.stdout, text.stderr, asJSON.stdout, string(page)} {
				for _, secret := range []string{"//me", "s%3Acr", "s:cr", "token", "@"} {
					if x.user != "" && strings.Contains(strings.ReplaceAll(report, "@media", ""), secret) {
						t.Errorf("a report contains %q: %s", secret, report)
					}
				}
				if report != "" && !strings.Contains(report, address) {
					t.Error("a report does not contain the server's address")
				}
			}
		})
	}
}

// Errors do not contain the password.
func TestErrorsHideThePassword(t *testing.T) {
	for _, args := range [][]string{
		{"-url", "http://me:secret@x/"}, {"-url", "ws://me:sec ret@x/"}, {"-url", `ws://me:se"cret@x/`}, {"http://me:secret@x/"},
		{"-url", "ws://me:secret@x:0/"}, {"-url", "ws://me:secret@no-such-host.invalid/"}, {"ws://me:secret@x/", "ws://me:secret@y/"},
		{"-url", "ws://me:secret@x/", "ws://me:secret@y/"}, {"-url", "wss://me:secret@x/"}, {"ws://me:secret@127.0.0.1:1/"},
	} {
		r := wsloadText(t, args...)
		if r.status == exitMeasured || strings.Contains(r.stderr+r.stdout, "cret") || strings.Contains(r.stderr+r.stdout, "me:") {
			t.Errorf("%q: got exit status %d, %q; want an error without user name and password", args, r.status, r.stderr)
		}
	}
	t.Setenv("WSLOAD_URL", "http://me:secret@x/")
	if r := wsloadText(t); r.status != exitUsage || strings.Contains(r.stderr, "cret") || !strings.Contains(r.stderr, "WSLOAD_URL") {
		t.Errorf("WSLOAD_URL: got exit status %d, %q", r.status, r.stderr)
	}
}

// All addresses of a name are tried. An address that refuses or does not answer delays the run
// once.
func TestEveryAddressOfANameIsTried(t *testing.T) {
	s := startFake(t, echoes)
	there := addressOf(t, s.url)
	refuses := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), there.Port())
	unreachable := netip.AddrPortFrom(netip.MustParseAddr("::1"), there.Port())
	silent := silentAddress(t)
	for name, addrs := range map[string][]netip.AddrPort{
		"the second":                     {refuses, there},
		"IPv6, then IPv4":                {unreachable, there},
		"the third":                      {unreachable, refuses, there},
		"after one that does not answer": {silent, there},
		"the first":                      {there, refuses},
	} {
		for _, args := range [][]string{{}, {"-mode", "connect"}, {"-rate", "50"}, {"-mode", "idle"}, {"-connections", "50", "-workers", "2", "-handshakes", "4"}} {
			t.Run(name+" "+strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				args := append([]string{"-timeout", "5s"}, args...)
				if addrs[0] == silent {
					args = append([]string{"-timeout", "1s", "-duration", "2s"}, args[2:]...)
				}
				r := measured(t, addrs, args...)
				r.wantErrors()
				if r.Messages == 0 || r.Open == 0 && r.Mode != generate.Connect {
					t.Errorf("got %d messages, %d open; want some", r.Messages, r.Open)
				}
			})
		}
	}
	r := measured(t, []netip.AddrPort{unreachable, refuses}, "-mode", "connect", "-connections", "1")
	r.wantErrors(stats.ConnectFailed)
	if first := r.Errors.Kinds["connect"].First; !strings.Contains(first, unreachable.String()+": ") || !strings.Contains(first, refuses.String()+": connection refused") {
		t.Errorf("got %s, want the errors of both addresses", first)
	}
	if n := r.Errors.Total; n > 20 {
		t.Errorf("refused connections were opened %d times in 200 ms, want at most 20", n)
	}
}

// With -reopen, connections follow a server that moves to another address of its name.
func TestReopenOnAnotherAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := l.Addr().(*net.TCPAddr).AddrPort()
	second, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), first.Port()).String())
	if err != nil {
		l.Close()
		t.Skip(err)
	}
	var all sync.WaitGroup
	serve := func(l net.Listener, behave func(*fakeConn)) {
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				all.Go(func() { defer c.Close(); c.SetDeadline(time.Now().Add(testTimeout)); behave(&fakeConn{Conn: c}) })
			}
		})
	}
	serve(l, func(c *fakeConn) { c.echoes(func(ws.OpCode, []byte) bool { l.Close(); return false }) })
	serve(second, echoes)
	r := measured(t, []netip.AddrPort{first, netip.MustParseAddrPort(second.Addr().String())}, "-reopen", "-connections", "1", "-duration", "500ms")
	second.Close()
	all.Wait()
	r.wantErrors(stats.Cut)
	if r.Reopened != 1 || r.Open != 1 {
		t.Errorf("got %d reopened, %d open; want 1 and 1", r.Reopened, r.Open)
	}
}

// measured returns the report of a run against a server with the given addresses.
func measured(t *testing.T, addrs []netip.AddrPort, args ...string) result {
	t.Helper()
	s, err := parse(shortRun("ws://example.com/", args...))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.plan(addrs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := measure.New(p, s.schedule(), nil, func(measure.Status) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	out, err := m.Do()
	if err != nil {
		t.Fatal(err)
	}
	return result{t: t, Report: *report.New(s.subject(p), out)}
}

func addressOf(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(u.Host)
}

// silentAddress returns an address where SYNs are not answered, because the listen queue is full.
func silentAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	name, nameErr := unix.Getsockname(fd)
	if err != nil || nameErr != nil {
		t.Fatal(err, nameErr)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	for range 3 { // one more than the queue holds
		c, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { c.Close() })
	}
	return addr
}

// localhost is both ::1 and 127.0.0.1, even if a server listens on only one of them.
func TestLocalhostHasBothFamilies(t *testing.T) {
	s := startFake(t, echoes)
	r := wsload(t, fmt.Sprintf("ws://localhost:%d/", addressOf(t, s.url).Port()))
	r.wantErrors()
	r.wantMessages()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Log("no IPv6:", err)
	} else {
		var all sync.WaitGroup
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				all.Go(func() { defer c.Close(); c.SetDeadline(time.Now().Add(testTimeout)); echoes(&fakeConn{Conn: c}) })
			}
		})
		r := wsload(t, fmt.Sprintf("ws://localhost:%d/", l.Addr().(*net.TCPAddr).Port))
		l.Close()
		all.Wait()
		r.wantErrors()
		r.wantMessages()
	}
	addrs, err := generate.Resolve(context.Background(), "ws://localhost:7/", nil)
	if err != nil || len(addrs) < 2 {
		t.Fatal(addrs, err)
	}
	for i, addr := range addrs {
		if addr.Port() != 7 || !addr.Addr().IsLoopback() || slices.Contains(addrs[:i], addr) {
			t.Errorf("got addresses %v", addrs)
		}
	}
	// Source addresses determine the family.
	addrs, err = generate.Resolve(context.Background(), "ws://localhost:7/", []netip.Addr{netip.MustParseAddr("127.0.0.2")})
	if err != nil || !slices.Equal(addrs, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7")}) {
		t.Errorf("with an IPv4 source: got %v, %v", addrs, err)
	}
	for _, sources := range []string{"127.0.0.2,::1", "::1,127.0.0.2"} {
		list, err := parseSourceList(sources)
		if err != nil {
			t.Fatal(err)
		}
		if addrs, err := generate.Resolve(context.Background(), "ws://localhost/", list); err == nil || !strings.Contains(err.Error(), "-source") {
			t.Errorf("-source %s: got %v, %v; want an error", sources, addrs, err)
		}
	}
	for text, want := range map[string]string{"ws://127.0.0.1/": "127.0.0.1:80", "ws://[::1]:81/": "[::1]:81", "ws://[::ffff:127.0.0.1]/": "127.0.0.1:80"} {
		if addrs, err := generate.Resolve(context.Background(), text, nil); err != nil || len(addrs) != 1 || addrs[0].String() != want {
			t.Errorf("%s: got %v, %v; want %s", text, addrs, err, want)
		}
	}
}

// A zone is local to this host, so the request's Host does not contain it (RFC 6874, section 4).
func TestHostHasNoZone(t *testing.T) {
	u, err := generate.ParseURL("ws://[fe80::1%25eth0]:81/")
	if err != nil {
		t.Fatal(err)
	}
	head, err := wire.RequestHead(u, nil, nil)
	if err != nil || !strings.Contains(string(head), "\r\nHost: [fe80::1]:81\r\n") {
		t.Errorf("got request head %q, %v", head, err)
	}
}

// The URL is the argument or -url. Both take precedence over WSLOAD_URL.
func TestURLArgument(t *testing.T) {
	t.Setenv("WSLOAD_URL", "ws://variable/")
	for args, want := range map[string]string{
		"":                                "ws://variable/",
		"ws://a/":                         "ws://a/",
		"-json ws://a/ -connections 3":    "ws://a/",
		"ws://a/ -connections 3":          "ws://a/",
		"-connections 3 -- ws://a/":       "ws://a/",
		"-url ws://a/ -connections 3":     "ws://a/",
		"-greeting ws://a/":               "ws://a/",
		"-greeting 3 ws://a/ -greeting=2": "ws://a/",
	} {
		s, err := parse(strings.Fields(args))
		if err != nil || s.url != want || strings.Contains(args, "connections") && s.connections != 3 {
			t.Errorf("%q: got URL %s, %v; want %s", args, s.url, err, want)
		}
	}
	// The values of a repeatable flag replace that of its variable.
	t.Setenv("WSLOAD_FAIL_IF", "errors>0")
	s, err := parse(strings.Fields("-fail-if p99>1s ws://a/ -fail-if p50>1s -header a:b -header c:d"))
	if err != nil || s.failIf.String() != "p99>1s,p50>1s" || s.header.String() != "a: b\nc: d" {
		t.Errorf("got conditions %v, fields %v, %v", s.failIf, s.header, err)
	}
}

// The example is from RFC 7617, section 2.
func TestBasicAuthorization(t *testing.T) {
	u, err := generate.ParseURL("ws://Aladdin:open%20sesame@example.com/")
	if err != nil {
		t.Fatal(err)
	}
	head, err := wire.RequestHead(u, nil, nil)
	if err != nil || !strings.Contains(string(head), "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n") {
		t.Errorf("got request head %q, %v", head, err)
	}
}
