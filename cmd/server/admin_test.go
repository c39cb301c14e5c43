package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// get requests a path from the admin server on a new connection.
func (s *server) get(path string) (status int, body string) {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: soon}
	response, err := client.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func (s *server) wantsStatus(path string, status int) string {
	s.t.Helper()
	got, body := s.get(path)
	if got != status {
		s.t.Errorf("%s: status %d, body %q; want status %d", path, got, body, status)
	}
	return body
}

// In a drain, /readyz fails at once, and the other admin endpoints answer until the end.
func TestAdminEndpointsDuringDrain(t *testing.T) {
	s := start(t, "-drain-timeout", "1h")
	p := s.dial()
	s.wantsStatus("/readyz", http.StatusOK)
	s.signals <- syscall.SIGTERM
	p.Wants(goingAway, "the drain has begun")
	if body := s.wantsStatus("/readyz", http.StatusServiceUnavailable); body != "draining\n" {
		t.Errorf("/readyz: body %q, want %q", body, "draining\n")
	}
	s.wantsStatus("/healthz", http.StatusOK)
	metrics := s.wantsStatus("/metrics", http.StatusOK)
	for _, want := range []string{"wsecho_draining 1\n", "wsecho_ready 0\n", "\nwsecho_handshakes_total{status=\"101\"} 1\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	p.Sends(maskedClose)
	p.WantsEnd()
	s.wantsExit(exitDrained)
}

func TestAdminNoneOpensNoListener(t *testing.T) {
	s := start(t, "-admin", "none")
	if s.admin != "" {
		t.Errorf("admin listener at %s, want none", s.admin)
	}
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}

// Idle admin connections do not count against -max-conns. Since the kernel assigns the lowest free
// descriptor, they also give the next connection a high descriptor.
func TestIdleAdminConnectionsDoNotCountAsConnections(t *testing.T) {
	s := start(t, "-workers", "1", "-max-conns", "2", "-drain-timeout", "0s")
	before := openDescriptors(t)
	const idle = 400 // more than -max-conns and the server's own descriptors
	for range idle {
		c, err := net.Dial("tcp", s.admin)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "the admin server has accepted the idle connections", func() bool { return openDescriptors(t) >= before+2*idle })
	p := s.dial()
	p.Sends(maskedHello)
	p.Wants(hello, "the connection is accepted and echoed")
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

func TestLogConnectionsLogsOpenAndClose(t *testing.T) {
	s := start(t, "-log-connections")
	p := s.dial()
	opened := s.wantsLog("connection opened")
	if opened["peer"] != p.LocalAddr().String() {
		t.Errorf("connection opened: got %v, want peer %v", opened, p.LocalAddr())
	}
	p.Sends(maskedHello + maskedClose)
	p.Wants(hello, "an echo")
	p.Wants("\x88\x02\x03\xe9", "a close")
	p.WantsEnd()
	closed := s.wantsLog("connection closed")
	if closed["peer"] != p.LocalAddr().String() || closed["code"] != 1001.0 || closed["reason"] != "completed" ||
		closed["bytes_in"].(float64) < 11+8 || closed["bytes_out"].(float64) < 7+4 || closed["duration"] == nil {
		t.Errorf("connection closed: got %v, want peer %v, code 1001, reason completed, byte counts and a duration", closed, p.LocalAddr())
	}
	s.signals <- syscall.SIGTERM
	s.wantsLog("stopped")
	s.wantsExit(exitDrained)
}
