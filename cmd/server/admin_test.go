package main

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsecho/internal/pool"
)

// asks asks the admin server, without keeping the connection.
func (s *server) asks(path string) (status int, body string) {
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
	got, body := s.asks(path)
	if got != status {
		s.t.Errorf("%s: %d, %q; want %d", path, got, body, status)
	}
	return body
}

// A load balancer hears of a drain at once, and an operator sees all of it.
func TestAdminDuringADrain(t *testing.T) {
	s := start(t, "-drain-timeout", "1h")
	p := s.dial()
	s.wantsStatus("/readyz", http.StatusOK)
	s.signals <- syscall.SIGTERM
	p.wants(goingAway, "the drain has begun")
	if body := s.wantsStatus("/readyz", http.StatusServiceUnavailable); body != "draining\n" {
		t.Errorf("readyz says %q", body)
	}
	s.wantsStatus("/healthz", http.StatusOK)
	metrics := s.wantsStatus("/metrics", http.StatusOK)
	for _, want := range []string{"wsecho_draining 1\n", "wsecho_ready 0\n", "\nwsecho_handshakes_total{status=\"101\"} 1\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	p.sends(maskedClose)
	p.wantsEnd()
	s.wantsExit(exitDrained)
}

func TestNoAdmin(t *testing.T) {
	s := start(t, "-admin", "none")
	if s.admin != "" {
		t.Errorf("the admin server is at %s", s.admin)
	}
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}

// Another address than loopback is what somebody may want, and had better know.
func TestAdminForEverybody(t *testing.T) {
	s := start(t, "-admin", "0.0.0.0:0", "-drain-timeout", "0s") // wants the line that it serves, which is behind the warning
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
	if !strings.HasPrefix(s.admin, "0.0.0.0:") && !strings.HasPrefix(s.admin, "[::]:") {
		t.Errorf("the admin server is at %s", s.admin)
	}
}

func TestLogConnections(t *testing.T) {
	s := start(t, "-log-connections")
	p := s.dial()
	opened := s.wantsLog("connection opened")
	if opened["peer"] != p.LocalAddr().String() {
		t.Errorf("opened: %v", opened)
	}
	p.sends(maskedHello + maskedClose)
	p.wants(hello, "an echo")
	p.wants("\x88\x02\x03\xe9", "a close")
	p.wantsEnd()
	closed := s.wantsLog("connection closed")
	if closed["peer"] != p.LocalAddr().String() || closed["code"] != 1001.0 || closed["how"] != "completed" ||
		closed["bytes_in"].(float64) < 11+8 || closed["bytes_out"].(float64) < 7+4 || closed["duration"] == nil {
		t.Errorf("closed: %v", closed)
	}
	s.signals <- syscall.SIGTERM
	s.wantsLog("stopped")
	s.wantsExit(exitDrained)
}

// A log that takes no lines does not keep a worker waiting, and says in the end what is missing.
func TestSlowLog(t *testing.T) {
	r, w := io.Pipe()
	lines := newConnLog(slog.New(slog.NewTextHandler(w, nil)))
	const many = connLogBuffer + 1000
	for range many {
		lines.note(pool.ConnEvent{})
	}
	closed := make(chan bool)
	go func() {
		lines.close()
		w.Close()
		close(closed)
	}()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(soon):
		t.Fatal("the log does not end")
	}
	written := strings.Count(string(all), "connection opened")
	if written > connLogBuffer+1 || !strings.Contains(string(all), "left out") {
		t.Errorf("%d lines of %d, and nothing about the others", written, many)
	}
}
