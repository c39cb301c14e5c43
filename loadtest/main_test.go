package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
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

const testTimeout = 10 * time.Second // longer than any single step of a test takes

// wsecho builds the server when the first test needs it. TestMain removes it.
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

var built string // directory of the built server; empty: none

// TestMain runs the tests and then checks that no descriptor, goroutine or process has leaked. In a
// process that wsloadProcess has started, it runs wsload instead.
func TestMain(m *testing.M) {
	if os.Getenv("BE_WSLOAD") != "" {
		main()
	}
	// The first Notify starts a goroutine of package signal that never ends.
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	signal.Stop(resumed)
	code := leak.Run(m)
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// A server is a wsecho in a separate process.
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

// serving starts a wsecho and returns its URL, which it logs.
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
		t.Fatalf("wsecho logs %q, %v; want its listen address", line, err)
	}
	return "ws://" + serving.Listen[0] + "/"
}

// A result holds the exit status and the output of a run of wsload.
type result struct {
	t             *testing.T
	status        int
	stdout        string
	stderr        string
	report.Report // only with -json: see parsed
}

// wsloadText runs wsload in this process.
func wsloadText(t *testing.T, args ...string) result {
	t.Helper()
	return wsloadWithSignals(t, nil, args...)
}

func wsloadWithSignals(t *testing.T, signals <-chan os.Signal, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(args, &stdout, &stderr, signals)
	return result{t: t, status: status, stdout: stdout.String(), stderr: stderr.String()}
}

// wsload runs wsload with -json for a short time and parses its report.
func wsload(t *testing.T, url string, args ...string) result {
	t.Helper()
	return wsloadText(t, append(shortRun(url, "-json"), args...)...).parsed()
}

// wsloadProcess returns a command that runs wsload in a separate process, for tests of signals and
// descriptors, or tests whose server must not share its processors.
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

// shortRun returns the flags of a run that measures for a short time.
func shortRun(url string, args ...string) []string {
	return append([]string{"-url", url, "-connections", "3", "-warmup", "0s", "-duration", "200ms", "-workers", "1"}, args...)
}

// runProcess runs a command of wsloadProcess to its end.
func runProcess(t *testing.T, cmd *exec.Cmd) result {
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
		r.t.Fatalf("exit status %d, invalid JSON: %v\n%s\n%s", r.status, err, r.stdout, r.stderr)
	}
	return r
}

// wantErrors checks that errors of exactly the given kinds were counted.
func (r result) wantErrors(kinds ...stats.Failure) {
	r.t.Helper()
	wanted := map[string]bool{}
	for _, k := range kinds {
		wanted[k.String()] = true
		if r.Errors.Kinds[k.String()].Count == 0 {
			r.t.Errorf("got no error of kind %v, want some: %+v", k, r.Errors)
		}
	}
	for kind, c := range r.Errors.Kinds {
		if !wanted[kind] {
			r.t.Errorf("got %d errors of kind %s, want none: %s", c.Count, kind, c.First)
		}
	}
}

func (r result) wantMessages() {
	r.t.Helper()
	if r.Messages == 0 || r.Latency.Count == 0 || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P50 {
		r.t.Errorf("got %d messages, latency %+v; want some", r.Messages, r.Latency)
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
		{"-payload", "1MiB"}, // wsecho echoes it in fragments
		{"-payload", "300KiB", "-inflight", "40"},
		{"-payload", "128:90,64KiB:10,1:7", "-type", "text", "-inflight", "7"},
		{"-connections", "500", "-workers", "2"},
		{"-connections", "50", "-ramp", "1000", "-source", "127.0.0.2,127.0.0.3", "-handshakes", "1"},
		{"-connections", "5", "-workers", "8"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			r := wsload(t, s.url, append([]string{"-duration", "1s"}, args...)...) // long enough for parallel subtests
			r.wantErrors()
			r.wantMessages()
			if r.status != 0 || r.stderr != "" || r.Open != r.Connections || r.Loop != "closed" {
				t.Errorf("got exit status %d, %q, %d of %d open, loop %s", r.status, r.stderr, r.Open, r.Connections, r.Loop)
			}
			if r.Handshake.Count != int64(r.Connections) {
				t.Errorf("got %d handshakes, want %d", r.Handshake.Count, r.Connections)
			}
		})
	}
}

// At a fixed rate exactly the messages that are due are sent, for any number of connections.
func TestFixedRateSendsWhatIsDue(t *testing.T) {
	s := startServer(t)
	for _, args := range [][]string{
		{"-connections", "7", "-workers", "2"},
		{"-connections", "1", "-inflight", "8"},
		{"-connections", "200"},
	} {
		r := wsload(t, s.url, append(args, "-rate", "2000", "-warmup", "50ms", "-duration", "250ms")...)
		r.wantErrors()
		if n := r.Latency.Count; n < 499 || n > 501 {
			t.Errorf("%v: got %d messages in 250 ms at 2000 per second, want 500", args, n)
		}
		if r.Loop != "fixed rate" || r.RateAsked != 2000 {
			t.Errorf("got loop %q at %v, want fixed rate at 2000", r.Loop, r.RateAsked)
		}
	}
}

func TestIdleConnectionsEchoOnce(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-mode", "idle", "-connections", "400", "-pid", fmt.Sprint(s.pid))
	r.wantErrors()
	if r.Messages != 400 || r.Latency.Count != 400 || r.Open != 400 || r.Rate != 0 {
		t.Errorf("got %d messages, %d latencies, %d open, rate %v; want 400, 400, 400 and 0", r.Messages, r.Latency.Count, r.Open, r.Rate)
	}
	if r.Server == nil || r.Server.RSS < 1<<20 || r.Server.User != nil {
		t.Errorf("got server %+v, want its RSS and no CPU per message", r.Server)
	}
}

func TestConnectOpensAndCloses(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-mode", "connect", "-connections", "8", "-workers", "2")
	r.wantErrors()
	r.wantMessages()
	if uint64(r.Handshake.Count) < r.Messages || r.Messages <= 8 {
		t.Errorf("got %d handshakes and %d messages, want more than 8 of both", r.Handshake.Count, r.Messages)
	}
	r = wsload(t, s.url, "-mode", "connect", "-rate", "500", "-connections", "100", "-duration", "400ms")
	r.wantErrors()
	if n := r.Latency.Count; n < 199 || n > 201 {
		t.Errorf("got %d connections in 400 ms at 500 per second, want 200", n)
	}
}

// The report has the CPU time of the server and of the generator.
func TestCPUOfServerAndGenerator(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-pid", fmt.Sprint(s.pid), "-connections", "50", "-inflight", "4", "-duration", "1s")
	r.wantErrors()
	for _, p := range []*report.Process{r.Server, &r.Generator} {
		if p == nil || p.User == nil || *p.User+*p.System <= 0 || p.CPUs <= 0 || p.CPUs > float64(runtime.NumCPU())+1 {
			t.Errorf("got %+v, want CPU time", p)
		}
	}
	if r.Server.PID != s.pid || r.Server.RSS < 1<<20 || r.Generator.PID != os.Getpid() {
		t.Errorf("got server %+v, generator %+v", r.Server, r.Generator)
	}
}

func TestSeriesCoversWarmupAndMeasuredTime(t *testing.T) {
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
			t.Errorf("got point %d: %+v", i, p)
		}
	}
	if before == 0 || after < 2 || r.Series[1].Rate == 0 || r.Series[1].P99 < r.Series[1].P50 {
		t.Errorf("got series %+v", r.Series)
	}
}

func TestInterruptReportsWhatWasMeasured(t *testing.T) {
	s := startServer(t)
	signals := make(chan os.Signal, 1)
	time.AfterFunc(300*time.Millisecond, func() { signals <- syscall.SIGINT })
	began := time.Now()
	r := wsloadWithSignals(t, signals, "-json", "-url", s.url, "-duration", "1h", "-warmup", "10ms", "-connections", "3").parsed()
	r.wantErrors()
	r.wantMessages()
	if !r.Interrupted || r.Duration > time.Since(began).Seconds() || r.Rate < float64(r.Messages)/2 || r.status != exitMeasured {
		t.Errorf("got interrupted %v, duration %v s, rate %v per second", r.Interrupted, r.Duration, r.Rate)
	}
}

func TestThresholdsSetTheExitStatus(t *testing.T) {
	s := startServer(t)
	r := wsload(t, s.url, "-fail-if", "p99>1h", "-fail-if", "errors>0,rate<1", "-fail-if", "open<3")
	if r.status != exitMeasured || len(r.Verdicts) != 4 {
		t.Errorf("got exit status %d, %+v; want %d and 4 conditions", r.status, r.Verdicts, exitMeasured)
	}
	r = wsload(t, s.url, "-fail-if", "p99>1ns", "-fail-if", "errors>0")
	if r.status != exitThreshold || !r.Verdicts[0].Failed || r.Verdicts[1].Failed || !strings.Contains(r.stderr, "p99>1ns: it is ") {
		t.Errorf("got exit status %d, %+v, %s; want %d", r.status, r.Verdicts, r.stderr, exitThreshold)
	}
}

func TestRunThatCannotStart(t *testing.T) {
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
			t.Errorf("%s: got exit status %d, stderr %q, stdout %q; want %d, %q and no report", args, r.status, r.stderr, r.stdout, exitFailed, wants)
		}
	}
	r := wsload(t, url, "-mode", "connect", "-connections", "1")
	r.wantErrors(stats.ConnectFailed)
	if n := r.Errors.Total; n > 20 {
		t.Errorf("a refused connection was opened %d times in 200 ms, want at most 20", n)
	}
}

// With -leave the run ends without the close handshake, and no message is lost.
func TestLeaveLosesNoMessage(t *testing.T) {
	server := startServer(t)
	for _, args := range [][]string{{"-leave"}, {"-leave", "-inflight", "8"}, {"-leave", "-mode", "idle"}, {"-leave", "-rate", "500"}} {
		r := wsload(t, server.url, args...)
		if r.wantErrors(); r.Messages == 0 && r.Mode != generate.Idle || r.Open != 3 || r.Lost != 0 {
			t.Errorf("%q: got %d messages, %d connections open at the end, %d messages lost; want 3 open and 0 lost", args, r.Messages, r.Open, r.Lost)
		}
	}
}

// With -leave the sockets are closed after the report is written, since closing many takes long.
// TestMain checks that none stays open.
func TestLeaveClosesSocketsAfterTheReport(t *testing.T) {
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
			t.Errorf("%s: got exit status %d %s, %d connections open at the report, want %d", leave, status, errs.String(), then, want)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// openSockets returns the number of open sockets of this process.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name, err := os.Readlink(file); err == nil && strings.HasPrefix(name, "socket:") { // Glob's own descriptor is closed by now: Readlink fails
			n++
		}
	}
	return n
}
