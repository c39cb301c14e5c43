package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsecho/internal/leak"
	"wsecho/loadtest/generate"
	"wsecho/loadtest/report"
	"wsecho/loadtest/stats"
)

const soon = 10 * time.Second // more than anything takes

// wsecho builds the real server when the first test needs it. TestMain removes it.
var wsecho = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "wsload")
	if err != nil {
		return "", err
	}
	built = dir
	path = filepath.Join(dir, "wsecho")
	if out, err := exec.Command("go", "build", "-o", path, "wsecho/cmd/server").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var built string // directory; empty: none

// TestMain checks once, for all tests, that nothing is left open or running. In a process that
// wsloadProcess has started, it is wsload.
func TestMain(m *testing.M) {
	if os.Getenv("BE_WSLOAD") != "" {
		main()
	}
	code := leak.Run(m)
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// A server is a wsecho in a process of its own.
type server struct {
	url string
	pid int
}

func startServer(t *testing.T, args ...string) server {
	t.Helper()
	path, err := wsecho()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log", "json", "-workers", "1"}, args...)
	cmd := exec.Command(path, args...)
	url := serving(t, cmd)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error("wsecho:", err)
		}
	})
	return server{url, cmd.Process.Pid}
}

// serving starts a server and returns its URL.
func serving(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var serving struct{ Listen []string }
	line, err := bufio.NewReader(log).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &serving) != nil || len(serving.Listen) != 1 {
		t.Fatalf("wsecho says %q, %v", line, err)
	}
	return "ws://" + serving.Listen[0] + "/"
}

// A result is what a run of wsload returns and writes.
type result struct {
	t             *testing.T
	status        int
	stdout        string
	stderr        string
	report.Report // with -json, which wsload sets
}

// wsloadText runs the program in this process.
func wsloadText(t *testing.T, args ...string) result {
	t.Helper()
	return wsloadUntil(t, nil, args...)
}

func wsloadUntil(t *testing.T, signals <-chan os.Signal, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(args, &stdout, &stderr, signals)
	return result{t: t, status: status, stdout: stdout.String(), stderr: stderr.String()}
}

// wsload runs the program for a short time and parses its report.
func wsload(t *testing.T, url string, args ...string) result {
	t.Helper()
	return wsloadText(t, append(shortly(url, "-json"), args...)...).parsed()
}

// wsloadProcess returns a command that runs the program in a process of its own, for what only a
// process has: signals, descriptors, and processors that it does not share with the test's servers.
func wsloadProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "BE_WSLOAD=1")
	return cmd
}

// shortly returns the flags of a run that measures for a short time.
func shortly(url string, args ...string) []string {
	return append([]string{"-url", url, "-connections", "3", "-warmup", "0s", "-duration", "200ms", "-workers", "1"}, args...)
}

// ran runs wsload in a process of its own.
func ran(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{t: t, status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

func (r result) parsed() result {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &r.Report); err != nil {
		r.t.Fatalf("exit status %d, %v\n%s\n%s", r.status, err, r.stdout, r.stderr)
	}
	return r
}

// wantErrors checks that errors of exactly these kinds were counted.
func (r result) wantErrors(kinds ...stats.Failure) {
	r.t.Helper()
	wanted := map[string]bool{}
	for _, k := range kinds {
		wanted[k.String()] = true
		if r.Errors.Kinds[k.String()].Count == 0 {
			r.t.Errorf("no error of kind %v was counted: %+v", k, r.Errors)
		}
	}
	for kind, c := range r.Errors.Kinds {
		if !wanted[kind] {
			r.t.Errorf("%d errors of kind %s: %s", c.Count, kind, c.First)
		}
	}
}

func (r result) wantMessages() {
	r.t.Helper()
	if r.Messages == 0 || r.Latency.Count == 0 || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P50 {
		r.t.Errorf("%d messages, %+v", r.Messages, r.Latency)
	}
}

func TestEcho(t *testing.T) {
	s := startServer(t)
	for _, args := range [][]string{
		{},
		{"-payload", "0"},
		{"-payload", "125", "-type", "text"},
		{"-payload", "126", "-type", "unicode"},
		{"-payload", "1KiB", "-inflight", "16"},
		{"-payload", "64KiB", "-inflight", "3"},
		{"-payload", "1MiB"}, // comes back in fragments
		{"-payload", "300KiB", "-inflight", "40"},
		{"-payload", "128:90,64KiB:10,1:7", "-type", "text", "-inflight", "7"},
		{"-connections", "500", "-workers", "2"},
		{"-connections", "50", "-ramp", "1000", "-source", "127.0.0.2,127.0.0.3", "-handshakes", "1"},
		{"-connections", "5", "-workers", "8"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			r := wsload(t, s.url, append([]string{"-duration", "1s"}, args...)...) // long enough for all of them at once
			r.wantErrors()
			r.wantMessages()
			if r.status != 0 || r.stderr != "" || r.Open != r.Connections || r.Loop != "closed" {
				t.Errorf("exit status %d, %q, %d of %d open, loop %s", r.status, r.stderr, r.Open, r.Connections, r.Loop)
			}
			if r.Handshake.Count != int64(r.Connections) {
				t.Errorf("%d handshakes of %d connections", r.Handshake.Count, r.Connections)
			}
		})
	}
}

// At a fixed rate every message that was due is accounted for, whatever the number of connections.
func TestFixedRate(t *testing.T) {
	s := startServer(t)
	for _, args := range [][]string{
		{"-connections", "7", "-workers", "2"},
		{"-connections", "1", "-inflight", "8"},
		{"-connections", "200"},
	} {
		r := wsload(t, s.url, append(args, "-rate", "2000", "-warmup", "50ms", "-duration", "250ms")...)
		r.wantErrors()
		if n := r.Latency.Count; n < 499 || n > 501 {
			t.Errorf("%v: %d messages were due in 250 ms at 2000 a second", args, n)
		}
		if r.Loop != "fixed rate" || r.RateAsked != 2000 {
			t.Errorf("loop %q at %v", r.Loop, r.RateAsked)
		}
	}
}

func TestIdle(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-mode", "idle", "-connections", "400", "-pid", fmt.Sprint(s.pid))
	r.wantErrors()
	if r.Messages != 400 || r.Latency.Count != 400 || r.Open != 400 || r.Rate != 0 {
		t.Errorf("%d messages, %d latencies, %d open, rate %v", r.Messages, r.Latency.Count, r.Open, r.Rate)
	}
	if r.Server == nil || r.Server.RSS < 1<<20 || r.Server.User != nil {
		t.Errorf("server %+v", r.Server)
	}
}

func TestConnect(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-mode", "connect", "-connections", "8", "-workers", "2")
	r.wantErrors()
	r.wantMessages()
	if uint64(r.Handshake.Count) < r.Messages || r.Messages <= 8 {
		t.Errorf("%d handshakes, %d messages", r.Handshake.Count, r.Messages)
	}
	r = wsload(t, s.url, "-mode", "connect", "-rate", "500", "-connections", "100", "-duration", "400ms")
	r.wantErrors()
	if n := r.Latency.Count; n < 199 || n > 201 {
		t.Errorf("%d connections were due in 400 ms at 500 a second", n)
	}
}

// The CPU time of the server and of the generator are reported separately.
func TestUsage(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-pid", fmt.Sprint(s.pid), "-connections", "50", "-inflight", "4", "-duration", "1s")
	r.wantErrors()
	for _, p := range []*report.Process{r.Server, &r.Generator} {
		if p == nil || p.User == nil || *p.User+*p.System <= 0 || p.CPUs <= 0 || p.CPUs > float64(runtime.NumCPU())+1 {
			t.Errorf("%+v", p)
		}
	}
	if r.Server.PID != s.pid || r.Server.RSS < 1<<20 || r.Generator.PID != os.Getpid() {
		t.Errorf("%+v, %+v", r.Server, r.Generator)
	}
}

func TestSeries(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-interval", "100ms", "-duration", "600ms", "-warmup", "300ms")
	var before, after int
	for i, p := range r.Series {
		if p.At <= 0.05 {
			before++
		} else {
			after++
		}
		if i > 0 && p.At <= r.Series[i-1].At || p.Open > 3 || p.Errors > 0 {
			t.Errorf("point %d: %+v", i, p)
		}
	}
	if before == 0 || after < 2 || r.Series[1].Rate == 0 || r.Series[1].P99 < r.Series[1].P50 {
		t.Errorf("%+v", r.Series)
	}
}

func TestInterrupt(t *testing.T) {
	s := startServer(t)
	signals := make(chan os.Signal, 1)
	time.AfterFunc(300*time.Millisecond, func() { signals <- syscall.SIGINT })
	began := time.Now()
	r := wsloadUntil(t, signals, "-json", "-url", s.url, "-duration", "1h", "-warmup", "10ms", "-connections", "3").parsed()
	r.wantErrors()
	r.wantMessages()
	if !r.Interrupted || r.Duration > time.Since(began).Seconds() || r.Rate < float64(r.Messages)/2 || r.status != exitMeasured {
		t.Errorf("interrupted %v after %v s, %v a second", r.Interrupted, r.Duration, r.Rate)
	}
}

func TestThresholdsDecideTheStatus(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-fail-if", "p99>1h", "-fail-if", "errors>0,rate<1", "-fail-if", "open<3")
	if r.status != exitMeasured || len(r.Verdicts) != 4 {
		t.Errorf("exit status %d, %+v", r.status, r.Verdicts)
	}
	r = wsload(t, s.url, "-fail-if", "p99>1ns", "-fail-if", "errors>0")
	if r.status != exitThreshold || !r.Verdicts[0].Failed || r.Verdicts[1].Failed || !strings.Contains(r.stderr, "p99>1ns: it is ") {
		t.Errorf("exit status %d, %+v, %s", r.status, r.Verdicts, r.stderr)
	}
}

func TestNothingToMeasure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + l.Addr().String() + "/"
	l.Close()
	for args, wants := range map[string]string{
		"-url " + url:                          "connection refused",
		"-url " + url + " -source 203.0.113.1": "-source",
		"-connections 4000000":                 "-connections 4000000: the descriptor limit",
		"-pid 2147483647":                      "-pid 2147483647",
		"-url " + url + " -source ::1":         "-source ::1",
		"-url ws://no-such-host.invalid/":      "no-such-host.invalid",
	} {
		r := wsloadText(t, strings.Fields(args)...)
		if r.status != exitFailed || !strings.Contains(r.stderr, wants) || r.stdout != "" {
			t.Errorf("%s: exit status %d, %q, %q", args, r.status, r.stderr, r.stdout)
		}
	}
	r := wsload(t, url, "-mode", "connect", "-connections", "1")
	r.wantErrors(stats.ConnectFailed)
	if n := r.Errors.Total; n > 20 {
		t.Errorf("a connection that is refused is opened %d times in 200 ms", n)
	}
}

// With -leave the run does not wait for the server to close, and no reply is lost.
func TestConnectionsMayLeaveWithoutClosing(t *testing.T) {
	server := startServer(t)
	for _, args := range [][]string{{"-leave"}, {"-leave", "-inflight", "8"}, {"-leave", "-mode", "idle"}, {"-leave", "-rate", "500"}} {
		r := wsload(t, server.url, args...)
		if r.wantErrors(); r.Messages == 0 && r.Mode != generate.Idle || r.Open != 3 || r.Lost != 0 {
			t.Errorf("%q: %d messages, %d connections open until the end, %d messages lost", args, r.Messages, r.Open, r.Lost)
		}
	}
}

// With -leave the report comes before the sockets are closed, since many sockets take long to
// close. In the end none is open.
func TestTheReportComesBeforeThoseWhoLeaveAreClosed(t *testing.T) {
	server := startServer(t)
	for leave, want := range map[string]int{"-leave": 3, "-leave=false": 0} {
		before, then := openSockets(t), -1
		stdout := writerFunc(func(p []byte) (int, error) {
			if then < 0 {
				then = openSockets(t) - before
			}
			return len(p), nil
		})
		var errs bytes.Buffer
		status := run([]string{leave, "-url", server.url, "-connections", "3", "-warmup", "0s", "-duration", "100ms", "-workers", "1"}, stdout, &errs, nil)
		if status != exitMeasured || then != want {
			t.Errorf("%s: exit status %d %s, %d connections open at the report, want %d", leave, status, errs.String(), then, want)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// openSockets returns the number of this process's sockets.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name, err := os.Readlink(file); err == nil && strings.HasPrefix(name, "socket:") { // Glob's own descriptor is closed by now
			n++
		}
	}
	return n
}
