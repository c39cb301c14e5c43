package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsecho/internal/testpeer"
)

// A server is a server that runs in this process. Tests wait for its log lines and send its signals
// through channels.
type server struct {
	t       *testing.T
	log     chan map[string]any
	signals chan os.Signal
	exit    chan int
	addr    string
	admin   string
	listens []any  // addresses in the log line "serving"
	before  string // log lines before "serving"
}

const soon = 10 * time.Second // long enough for anything that should happen

func start(t *testing.T, args ...string) *server {
	t.Helper()
	return startWith(t, func(w io.Writer) io.Writer { return w }, args...)
}

// startWith is start with a writer between the server and its log.
func startWith(t *testing.T, stderr func(io.Writer) io.Writer, args ...string) *server {
	t.Helper()
	s := &server{t: t, log: make(chan map[string]any, 64), signals: make(chan os.Signal, 2), exit: make(chan int, 1)}
	r, w := io.Pipe()
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			var record map[string]any
			if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
				record = map[string]any{"msg": lines.Text()}
			}
			s.log <- record
		}
		close(s.log)
	}()
	go func() {
		s.exit <- run(append([]string{"-log", "json", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, args...), io.Discard, stderr(w), s.signals)
		w.Close()
	}()
	var before []map[string]any
	serving := s.wantsLogAfter("serving", func(record map[string]any) { before = append(before, record) })
	s.before = fmt.Sprint(before)
	s.listens = serving["listen"].([]any)
	s.addr = s.listens[0].(string)
	s.admin = serving["admin"].(string)
	return s
}

// wantsLog waits for the record with the given message.
func (s *server) wantsLog(msg string) map[string]any {
	s.t.Helper()
	return s.wantsLogAfter(msg, func(map[string]any) {})
}

// wantsLogAfter waits as wantsLog does, and calls before for each earlier record.
func (s *server) wantsLogAfter(msg string, before func(map[string]any)) map[string]any {
	s.t.Helper()
	deadline := time.After(soon)
	for {
		select {
		case record, ok := <-s.log:
			if !ok {
				s.t.Fatalf("the log ended before %q", msg)
			}
			if record["msg"] == msg {
				return record
			}
			before(record)
		case <-deadline:
			s.t.Fatalf("timed out waiting for the log line %q", msg)
		}
	}
}

func (s *server) wantsExit(status int) {
	s.t.Helper()
	select {
	case got := <-s.exit:
		if got != status {
			s.t.Errorf("exit status %d, want %d", got, status)
		}
	case <-time.After(soon):
		s.t.Fatal("timed out waiting for the server to end")
	}
}

// dial opens a WebSocket connection.
func (s *server) dial() *testpeer.Peer {
	s.t.Helper()
	return testpeer.Dial(s.t, "tcp", s.addr).Upgrades()
}

const (
	maskedHello = testpeer.MaskedHello
	hello       = testpeer.Hello

	goingAway   = "\x88\x1d\x03\xe9the server is shutting down"
	maskedClose = "\x88\x82\x00\x00\x00\x00\x03\xe9"
)

func TestSignalDrains(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			s := start(t)
			p := s.dial()
			p.Sends(maskedHello)
			p.Wants(hello, "an echo")
			p.Sends(maskedHello)
			s.signals <- sig
			p.Wants(hello, "a message sent before the signal is echoed")
			p.Wants(goingAway, "the connection is closed with 1001")
			p.Sends(maskedClose)
			p.WantsEnd()
			stopped := s.wantsLog("stopped")
			s.wantsExit(exitDrained)
			if stopped["messages"] != 2.0 || stopped["upgraded"] != 1.0 {
				t.Errorf("totals %v, want 2 messages and 1 upgraded", stopped)
			}
			if codes := fmt.Sprint(stopped["codes"]); codes != "map[1001:1]" {
				t.Errorf("codes %s, want map[1001:1]", codes)
			}
		})
	}
}

func TestDrainTimeoutCutsConnections(t *testing.T) {
	s := start(t, "-drain-timeout", "100ms")
	p := s.dial()
	s.signals <- syscall.SIGTERM
	stopped := s.wantsLog("stopped")
	s.wantsExit(exitDrained)
	if ended := fmt.Sprint(stopped["ended"]); ended != "map[cut by shutdown:1]" {
		t.Errorf("ended %s, want map[cut by shutdown:1]", ended)
	}
	p.Wants(goingAway, "a close frame before the cut")
}

func TestSecondSignalEndsDrain(t *testing.T) {
	s := start(t, "-drain-timeout", "1h")
	s.dial()
	s.signals <- syscall.SIGTERM
	s.wantsLog("draining")
	s.signals <- syscall.SIGINT
	s.wantsLog("failed")
	s.wantsExit(exitFailed)
}

// systemd and closing terminals send SIGHUP along with another signal: it does not end a drain.
func TestSecondSIGHUPDoesNotEndDrain(t *testing.T) {
	s := start(t, "-drain-timeout", "1h")
	p := s.dial()
	s.signals <- syscall.SIGHUP
	p.Wants(goingAway, "the drain has begun")
	s.signals <- syscall.SIGHUP
	select {
	case status := <-s.exit:
		t.Fatalf("exit status %d before the peer has answered the close frame", status)
	case <-time.After(5 * leastDrain):
	}
	p.Sends(maskedClose)
	p.WantsEnd()
	s.wantsExit(exitDrained)
}

// timeout(1) sends its signal twice at once. A server without connections drains all the same.
func TestTwoSignalsAtOnceDrain(t *testing.T) {
	s := start(t, "-drain-timeout", "1h")
	s.signals <- syscall.SIGTERM
	s.signals <- syscall.SIGTERM
	s.wantsLog("stopped")
	s.wantsExit(exitDrained)
}

func TestUnixSocketIsRemovedAtExit(t *testing.T) {
	path := t.TempDir() + "/socket"
	s := start(t, "-listen", "unix:"+path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket still exists: %v", err)
	}
}

// runs runs the program until it exits. The test fails if the program serves instead.
func runs(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	signals, exit := make(chan os.Signal, 2), make(chan int, 1)
	go func() { exit <- run(args, &out, &log, signals) }()
	select {
	case status = <-exit:
	case <-time.After(soon):
		t.Errorf("timed out waiting for wsecho %q to exit", args)
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		status = <-exit
	}
	return status, out.String(), log.String()
}

// Every error at start names the flag, the value and the cause.
func TestStartErrorNamesFlagValueAndCause(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := taken.Addr().String()

	for _, c := range []struct {
		name   string
		args   []string
		env    [2]string
		status int
		wants  []string
	}{
		{"port in use", []string{"-listen", inUse}, [2]string{}, exitFailed, []string{"-listen", inUse, "address already in use"}},
		{"no such address", []string{"-listen", "192.0.2.1:80"}, [2]string{}, exitFailed, []string{"-listen", "192.0.2.1:80", "cannot assign"}},
		{"no port", []string{"-listen", "localhost"}, [2]string{}, exitUsage, []string{"-listen", "localhost", "missing port"}},
		{"admin port in use", []string{"-listen", "127.0.0.1:0", "-admin", inUse}, [2]string{}, exitFailed, []string{"-admin", inUse, "address already in use"}},
		{"admin without port", []string{"-admin", "localhost"}, [2]string{}, exitUsage, []string{"-admin", "localhost", "not host:port"}},
		{"not a boolean", []string{"-log-connections=maybe"}, [2]string{}, exitUsage, []string{"-log-connections", "maybe"}},
		{"negative fraction", []string{"-mutex-profile-fraction", "-1"}, [2]string{}, exitUsage, []string{"-mutex-profile-fraction", "-1", "not between"}},
		{"rate is not a number", []string{"-block-profile-rate", "1ms"}, [2]string{}, exitUsage, []string{"-block-profile-rate", "1ms", "not an integer"}},
		{"no directory", []string{"-listen", "unix:/nowhere/socket"}, [2]string{}, exitFailed, []string{"-listen", "unix:/nowhere/socket", "no such file"}},
		{"beyond the descriptor limit", []string{"-max-conns", "2000000000"}, [2]string{}, exitFailed, []string{"-max-conns", "2000000000", "descriptor limit"}},
		{"not a number", []string{"-workers", "many"}, [2]string{}, exitUsage, []string{"-workers", "many", "not an integer"}},
		{"too small", []string{"-workers", "0"}, [2]string{}, exitUsage, []string{"-workers", "0", "not between 1 and"}},
		{"not a size", []string{"-max-header", "8kb"}, [2]string{}, exitUsage, []string{"-max-header", "8kb", "8KiB"[1:]}},
		{"overflow", []string{"-max-message", "9999999999GiB"}, [2]string{}, exitUsage, []string{"-max-message", "9999999999GiB", "not a size in bytes"}},
		{"not a duration", []string{"-idle-timeout", "5"}, [2]string{}, exitUsage, []string{"-idle-timeout", "5", "not a duration"}},
		{"negative time", []string{"-drain-timeout", "-1s"}, [2]string{}, exitUsage, []string{"-drain-timeout", "-1s", "not between"}},
		{"no such word", []string{"-log", "xml"}, [2]string{}, exitUsage, []string{"-log", "xml", "text, json"}},
		{"empty member", []string{"-origins", "a,,b"}, [2]string{}, exitUsage, []string{"-origins", "a,,b", "empty item"}},
		{"unknown flag", []string{"-port", "80"}, [2]string{}, exitUsage, []string{"-port"}},
		{"argument", []string{"8080"}, [2]string{}, exitUsage, []string{"8080", "only flags"}},
		{"environment", nil, [2]string{"WSECHO_WORKERS", "many"}, exitUsage, []string{"workers", "WSECHO_WORKERS", "many", "not an integer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("WSECHO_ADMIN", "127.0.0.1:0")
			if c.env[0] != "" {
				t.Setenv(c.env[0], c.env[1])
			}
			status, _, stderr := runs(t, c.args...)
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			for _, want := range c.wants {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q, want %q in it", stderr, want)
				}
			}
		})
	}
}

func TestConnectionLimitsRefuseWith503(t *testing.T) {
	for flag, reason := range map[string]string{
		"-max-conns":        "no room for another connection",
		"-max-conns-per-ip": "too many connections from your address",
	} {
		t.Run(flag, func(t *testing.T) {
			s := start(t, flag, "2", "-drain-timeout", "0s")
			first, second := s.dial(), s.dial()
			response, err := http.Get("http://" + s.addr)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || string(body) != reason+"\n" {
				t.Errorf("%s: %s, %q", flag, response.Status, body)
			}
			for _, p := range []*testpeer.Peer{first, second} {
				p.Sends(maskedHello)
				p.Wants(hello, "the other connections are not affected")
			}
			first.Sends(maskedClose)
			first.Wants("\x88\x02\x03\xe9", "a close")
			first.WantsEnd()
			// The server frees the place when it receives the FIN. A peer cannot observe that, so try
			// several times.
			deadline := time.Now().Add(soon)
			for {
				response, err := http.Get("http://" + s.addr)
				if err == nil && response.StatusCode == http.StatusUpgradeRequired {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the server still refuses connections after one has closed")
				}
			}
			s.signals <- syscall.SIGTERM
			s.wantsLog("stopped")
		})
	}
}
