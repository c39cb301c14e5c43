package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// wantsHealth runs wsecho -healthcheck. It wants a healthy server if reason is empty, and otherwise
// a failure with that reason.
func wantsHealth(t *testing.T, admin, reason string) {
	t.Helper()
	status, stdout, stderr := runs(t, "-healthcheck", "-admin", admin)
	switch {
	case stdout != "":
		t.Errorf("-admin %s: stdout %q, want nothing", admin, stdout)
	case reason == "" && (status != 0 || stderr != ""):
		t.Errorf("-admin %s: exit status %d, stderr %q; want 0 and no output", admin, status, stderr)
	case reason != "" && (status != 1 || !strings.Contains(stderr, "wsecho: -healthcheck: -admin "+admin) || !strings.Contains(stderr, reason)):
		t.Errorf("-admin %s: exit status %d, stderr %q; want 1 and %q", admin, status, stderr, reason)
	}
}

// The check succeeds for a running server with every notation of its address, and during a drain.
// It fails for a server that has ended.
func TestHealthcheckSucceedsUntilServerEnds(t *testing.T) {
	s := start(t, "-admin", ":0")
	_, port, err := net.SplitHostPort(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "localhost", "[::1]"} {
		wantsHealth(t, host+":"+port, "")
	}
	t.Setenv("WSECHO_ADMIN", ":"+port)
	if status, _, stderr := runs(t, "-healthcheck"); status != 0 {
		t.Errorf("with WSECHO_ADMIN: exit status %d, stderr %q; want 0", status, stderr)
	}
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1") // is not used
	wantsHealth(t, "127.0.0.1:"+port, "")

	p := s.dial()
	s.signals <- syscall.SIGTERM
	p.Wants(goingAway, "the drain has begun")
	wantsHealth(t, "127.0.0.1:"+port, "")
	p.Sends(maskedClose)
	p.WantsEnd()
	s.wantsExit(exitDrained)
	wantsHealth(t, "127.0.0.1:"+port, "connection refused")
}

// The check reaches a server that listens on all addresses of one family only.
func TestHealthcheckTriesBothFamilies(t *testing.T) {
	for network, host := range map[string]string{"tcp4": "0.0.0.0", "tcp6": "[::]"} {
		l, err := net.Listen(network, host+":0")
		if err != nil {
			t.Skip(err) // a machine without IPv6
		}
		healthy := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
		healthy.Start()
		defer healthy.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		wantsHealth(t, host+":"+port, "")
		wantsHealth(t, ":"+port, "")
	}
}

func TestHealthcheckFailureHasReason(t *testing.T) {
	for name, answer := range map[string]struct {
		text   string // empty: no response, and the connection stays open
		reason string
	}{
		"503":             {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 23\r\n\r\nworker 1 does not turn\n", `/healthz answers 503 Service Unavailable: "worker 1 does not turn\n"`},
		"404":             {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"},
		"redirect":        {"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "302 Found"},
		"half a response": {"HTTP/1.1 200", "no answer within 3s"},
		"hangs":           {"", "no answer within 3s"},
		"endless":         {"HTTP/1.1 500 Internal Server Error\r\n\r\n" + strings.Repeat("x", 4096), "500 Internal Server Error"},
		"not HTTP":        {"SSH-2.0-OpenSSH\r\n", "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					defer c.Close()
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						io.WriteString(c, answer.text)
					}
				}
			}()
			wantsHealth(t, l.Addr().String(), answer.reason)
		})
	}
	t.Run("connection not accepted", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		wantsHealth(t, l.Addr().String(), "no answer within 3s")
	})
	t.Run("no admin endpoints", func(t *testing.T) {
		wantsHealth(t, "none", "nothing to ask")
		wantsHealth(t, "127.0.0.1:0", "port 0")
	})
}
