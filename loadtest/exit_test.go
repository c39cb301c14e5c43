package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"wsecho/loadtest/generate"
)

// everyMode holds the flags of every kind of run.
var everyMode = map[string][]string{
	"echo":            {},
	"pipelined":       {"-inflight", "4"},
	"rate":            {"-rate", "100"},
	"connect":         {"-mode", "connect"},
	"connect at rate": {"-mode", "connect", "-rate", "50"},
	"idle":            {"-mode", "idle"},
	"reopen":          {"-reopen"},
	"leave":           {"-leave"},
}

// echoes upgrades the connection and echoes all messages.
func echoes(c *fakeConn) {
	c.upgrades()
	for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
		c.sends(ws.NewFrame(op, true, p))
	}
}

// The exit status is 0 only if something was measured without errors. A run that measured nothing
// says so.
func TestExitStatusOfEveryMode(t *testing.T) {
	right, refusing := startServer(t), startServer(t, "-max-message", "100")
	silent := startFake(t, func(c *fakeConn) {
		c.upgrades()
		for _, _, ok := c.receives(); ok; _, _, ok = c.receives() {
		}
	})
	once := func(c *fakeConn) { c.echoes(func(ws.OpCode, []byte) bool { return false }) }
	for name, args := range everyMode {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := wsloadText(t, shortRun(right.url, args...)...)
			if r.status != exitMeasured || r.stderr != "" {
				t.Errorf("a server that echoes: got exit status %d, %q", r.status, r.stderr)
			}
			for what, url := range map[string]string{"refuses every message": refusing.url, "answers no message": silent.url} {
				r = wsloadText(t, append(shortRun(url, args...), "-timeout", "300ms")...)
				report := strings.Contains(r.stdout, "none measured") || strings.Contains(r.stderr, "all connections have ended")
				if r.status != exitFailed || !strings.Contains(r.stderr, "nothing was measured") || !report {
					t.Errorf("a server that %s: got exit status %d, %q\n%s", what, r.status, r.stderr, r.stdout)
				}
				r = wsloadText(t, append(shortRun(url, args...), "-timeout", "300ms", "-fail-if", "p99>1h", "-fail-if", "errors>1e9")...)
				if r.status != exitFailed || !strings.Contains(r.stderr, "nothing was measured") {
					t.Errorf("a server that %s, with -fail-if: got exit status %d, %q", what, r.status, r.stderr)
				}
			}
			if name == "idle" || strings.HasPrefix(name, "connect") {
				return // a connection sends fewer than three messages
			}
			r = wsloadText(t, shortRun(startFake(t, once).url, args...)...)
			if r.status != exitFailed || !strings.Contains(r.stderr, "errors") || strings.Contains(r.stderr, "nothing was measured") {
				t.Errorf("a server that ends connections: got exit status %d, %q", r.status, r.stderr)
			}
			r = wsloadText(t, append(shortRun(startFake(t, once).url, args...), "-fail-if", "errors>1e9")...)
			if r.status != exitMeasured {
				t.Errorf("with -fail-if errors>1e9: got exit status %d, %q", r.status, r.stderr)
			}
		})
	}
}

// running is a wsload that runs in a separate process.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// start starts wsload in a separate process.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: wsloadProcess(t, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// ended waits for the process to exit and returns its exit status.
func (r *running) ended() (status int) {
	r.t.Helper()
	watchdog := time.AfterFunc(6*testTimeout, func() { r.cmd.Process.Kill() })
	defer watchdog.Stop()
	r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// SIGINT, SIGTERM and SIGHUP end the measurement. The exit status depends on whether anything was
// measured before.
func TestSignalsEndTheMeasurement(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		for _, x := range []struct {
			name    string
			args    []string
			replies bool
			status  int
		}{
			{"before the first reply", nil, false, exitFailed},
			{"before the first reply at a rate", []string{"-rate", "10"}, false, exitFailed},
			{"before the first reply, idle", []string{"-mode", "idle"}, false, exitFailed},
			{"before the first reply, connect", []string{"-mode", "connect"}, false, exitFailed},
			{"in the warm-up", []string{"-warmup", "1h"}, true, exitFailed},
			{"while measuring", nil, true, exitMeasured},
			{"while measuring at a rate", []string{"-rate", "100"}, true, exitMeasured},
			{"while measuring, connect", []string{"-mode", "connect"}, true, exitMeasured},
			{"while measuring, leave", []string{"-leave"}, true, exitMeasured},
		} {
			t.Run(signal.String()+" "+x.name, func(t *testing.T) {
				t.Parallel()
				// The third message is sent after two replies. In mode connect, some connections
				// are opened before the measured time begins.
				var messages atomic.Int64
				enough := int64(3)
				if slices.Contains(x.args, "connect") {
					enough = 200
				}
				begun := make(chan struct{}) // closed when the signal may be sent
				s := startFake(t, func(c *fakeConn) {
					c.upgrades()
					for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
						if x.replies {
							c.sends(ws.NewFrame(op, true, p))
						}
						if n := messages.Add(1); n == 1 && !x.replies || n == enough && x.replies {
							close(begun)
						}
					}
				})
				r := start(t, shortRun(s.url, append([]string{"-connections", "1", "-duration", "1h", "-timeout", "2s"}, x.args...)...)...)
				select {
				case <-begun:
				case <-time.After(3 * testTimeout):
					t.Error("the server received no message")
				}
				r.cmd.Process.Signal(signal)
				if status := r.ended(); status != x.status || !strings.Contains(r.stdout.String(), "The run was interrupted") {
					t.Errorf("got exit status %d, want %d and a report\n%s%s", status, x.status, r.stdout.Bytes(), r.stderr.Bytes())
				}
			})
		}
	}
}

// A second signal ends wsload while replies are outstanding.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	begun := make(chan struct{}, 10)
	s := startFake(t, func(c *fakeConn) {
		c.upgrades()
		for _, _, ok := c.receives(); ok; _, _, ok = c.receives() {
			begun <- struct{}{}
		}
	})
	r := start(t, shortRun(s.url, "-connections", "1", "-duration", "1h", "-timeout", "1h")...)
	<-begun
	gone := make(chan int, 1)
	go func() { gone <- r.ended() }()
	var status int
	for waits := true; waits; { // repeatedly, as a user would
		r.cmd.Process.Signal(syscall.SIGINT)
		select {
		case status = <-gone:
			waits = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	if status != exitFailed || !strings.Contains(r.stderr.String(), "interrupted") {
		t.Errorf("got exit status %d, %s", status, r.stderr.Bytes())
	}
}

// A SIGHUP that the parent ignores, as nohup(1) does, stays ignored.
func TestInheritedIgnoreOfSIGHUP(t *testing.T) {
	s := startFake(t, echoes)
	cmd := wsloadProcess(t)
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP; "$0" "$@" & sleep 0.1; kill -HUP $!; wait $!`, cmd.Path}, shortRun(s.url)...)
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = path
	if r := runProcess(t, cmd); r.status != exitMeasured || strings.Contains(r.stdout, "interrupted") {
		t.Errorf("got exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// If the server's process ends during the run, the report has what was measured until then.
func TestServerProcessEndsDuringTheRun(t *testing.T) {
	for _, args := range [][]string{{}, {"-rate", "500"}, {"-mode", "connect"}, {"-reopen"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			path, err := wsecho()
			if err != nil {
				t.Fatal(err)
			}
			server := exec.Command(path, "-listen", "127.0.0.1:0", "-admin", "none", "-log", "json")
			url := serving(t, server)
			killed := make(chan struct{})
			time.AfterFunc(500*time.Millisecond, func() {
				server.Process.Kill()
				server.Wait()
				close(killed)
			})
			html := filepath.Join(t.TempDir(), "report.html")
			r := wsload(t, url, append(args, "-duration", "1s", "-interval", "100ms", "-timeout", "500ms", "-html", html,
				"-pid", strconv.Itoa(server.Process.Pid), "-fail-if", "cpu>1h")...)
			<-killed
			if r.status != exitFailed || r.Errors.Total == 0 || r.Messages == 0 || r.Server != nil {
				t.Errorf("got exit status %d, %d messages, errors %+v, server %+v", r.status, r.Messages, r.Errors, r.Server)
			}
			if !strings.Contains(r.stderr, "has ended") || !r.Verdicts[0].Failed {
				t.Errorf("got %q, %+v; want an error and a failed condition", r.stderr, r.Verdicts)
			}
			if page, err := os.ReadFile(html); err != nil || !bytes.Contains(page, []byte("<svg")) {
				t.Errorf("got no HTML page with charts: %v", err)
			}
		})
	}
}

// An output that cannot be written sets exit status 1 and does not affect the other outputs.
func TestOutputsThatCannotBeWritten(t *testing.T) {
	s := startFake(t, echoes)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	html := filepath.Join(t.TempDir(), "report.html")
	for name, args := range map[string][]string{
		"text": shortRun(s.url), "JSON": shortRun(s.url, "-json"), "help": {"-h"}, "version": {"-version"}, "page": shortRun(s.url, "-html", html),
	} {
		cmd := wsloadProcess(t, args...)
		cmd.Stdout = full
		if r := runProcess(t, cmd); r.status != exitFailed || !strings.Contains(r.stderr, "no space left on device") {
			t.Errorf("%s to a full device: got exit status %d, %q", name, r.status, r.stderr)
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		cmd = wsloadProcess(t, args...)
		cmd.Stdout = write
		if r := runProcess(t, cmd); r.status != exitFailed || !strings.Contains(r.stderr, "broken pipe") {
			t.Errorf("%s to a closed pipe: got exit status %d, %q", name, r.status, r.stderr)
		}
		write.Close()
	}
	if page, err := os.ReadFile(html); err != nil || !bytes.Contains(page, []byte("<svg")) {
		t.Errorf("got no HTML page when stdout is full: %v", err)
	}
	r := wsloadText(t, shortRun(s.url, "-html", "/dev/full")...)
	if r.status != exitFailed || !strings.Contains(r.stderr, "-html /dev/full: no space left") || !strings.Contains(r.stdout, "3 of 3 at the end") {
		t.Errorf("HTML page to a full device: got exit status %d, %q\n%s", r.status, r.stderr, r.stdout)
	}
}

// If stderr is a closed pipe, the exit status is the same.
func TestClosedStderr(t *testing.T) {
	s := startFake(t, func(c *fakeConn) { c.echoes(func(ws.OpCode, []byte) bool { return false }) })
	for args, want := range map[string]int{"": exitFailed, "-fail-if max>1h,errors>0": exitThreshold, "-html /nowhere/x": exitFailed, "-rate x": exitUsage} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		cmd := wsloadProcess(t, shortRun(s.url, strings.Fields(args)...)...)
		cmd.Stderr = write
		if r := runProcess(t, cmd); r.status != want {
			t.Errorf("%q: got exit status %d, want %d", args, r.status, want)
		}
		write.Close()
	}
}

// A page that cannot be written is an error before the run. A run that fails does not change an
// existing page.
func TestPageIsOpenedBeforeTheRun(t *testing.T) {
	var connections atomic.Int64
	s := startFake(t, func(c *fakeConn) { connections.Add(1); echoes(c) })
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/nowhere/x": "no such file", dir: "is a directory", fifo: "no such device"} {
		r := wsloadText(t, shortRun(s.url, "-html", path)...)
		if r.status != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, "-html "+path+": "+want) {
			t.Errorf("%s: got exit status %d, stdout %q, stderr %q; want error %q", path, r.status, r.stdout, r.stderr, want)
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("%d connections were opened, want 0", n)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "ws://" + l.Addr().String()
	l.Close()
	created, kept := filepath.Join(dir, "created"), filepath.Join(dir, "kept")
	long := strings.Repeat("an earlier report", 1e5)
	if err := os.WriteFile(kept, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{created, kept} {
		if r := wsloadText(t, shortRun(closed, "-html", path)...); r.status != exitFailed {
			t.Errorf("a server that refuses: got exit status %d, want %d", r.status, exitFailed)
		}
	}
	if _, err := os.Stat(created); err == nil {
		t.Error("the created page was not removed")
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != long {
		t.Errorf("the existing page was changed: %d bytes, %v", len(text), err)
	}
	if r := wsloadText(t, shortRun(s.url, "-html", kept)...); r.status != exitMeasured {
		t.Errorf("got exit status %d, %s", r.status, r.stderr)
	}
	if text, err := os.ReadFile(kept); err != nil || !bytes.HasPrefix(text, []byte("<!doctype")) || !bytes.HasSuffix(text, []byte("</html>\n")) {
		t.Errorf("the file is not exactly the page: %d bytes, %v", len(text), err)
	}
}

// The series ends with the measured time, before connections are closed.
func TestSeriesEndsWhileConnectionsAreOpen(t *testing.T) {
	s := startFake(t, func(c *fakeConn) {
		c.upgrades()
		for op, p, ok := c.receives(); ok; op, p, ok = c.receives() {
			c.sends(ws.NewFrame(op, true, p))
		}
		time.Sleep(1200 * time.Millisecond) // several intervals, during which the client waits for the end of TCP
	})
	for _, x := range []struct{ args, last string }{
		{"-duration 1200ms", ""}, {"-duration 1480ms", ""}, {"-duration 1280ms", ""}, {"-duration 1200ms -rate 300", ""}, {"-mode idle -duration 1200ms", ""}, {"-leave -duration 1400ms", ""},
	} {
		t.Run(x.args, func(t *testing.T) {
			t.Parallel()
			r := wsload(t, s.url, append(strings.Fields(x.args), "-interval", "400ms")...)
			r.wantErrors()
			if len(r.Series) < 2 {
				t.Fatalf("got series %+v, want at least 2 points", r.Series)
			}
			last, before := r.Series[len(r.Series)-1], r.Series[len(r.Series)-2]
			if last.Open != 3 || last.At > r.Duration+0.001 || last.At < r.Duration/2 {
				t.Errorf("measured for %v s: got last point %+v, want 3 open", r.Duration, last)
			}
			if last.At-before.At < 0.196 {
				t.Errorf("the last interval is %v s long, want at least half of 0.4 s", last.At-before.At)
			}
			if r.Mode != generate.Idle && last.Rate == 0 {
				t.Errorf("the last point has rate 0: %+v", r.Series)
			}
		})
	}
}

// The report of an interrupted run has the number of connections that were open at the signal.
func TestOpenWhenInterrupted(t *testing.T) {
	signals := make(chan os.Signal, 1)
	var upgraded atomic.Int64
	s := startFake(t, func(c *fakeConn) {
		if upgraded.Add(1) == 3 {
			signals <- syscall.SIGINT // the third handshake is never answered
			c.receives()
			return
		}
		echoes(c)
	})
	r := wsloadWithSignals(t, signals, shortRun(s.url, "-json", "-mode", "idle", "-handshakes", "1", "-fail-if", "open<2")...).parsed()
	if r.Open != 2 || r.Verdicts[0].Failed || !r.Interrupted || len(r.Series) == 0 {
		t.Errorf("got %d open, interrupted %v, %+v; want 2 open", r.Open, r.Interrupted, r.Verdicts)
	}
}

// The descriptor limit is checked before the run. If descriptors run out later, that is an error.
func TestTooFewDescriptors(t *testing.T) {
	s := startFake(t, echoes)
	limited := func(limit string, inherited int, args ...string) result {
		cmd := wsloadProcess(t)
		cmd.Args = append([]string{"sh", "-c", "ulimit -n " + limit + `; exec "$0" "$@"`, cmd.Path}, append([]string{"-url", s.url}, args...)...)
		path, err := exec.LookPath("sh")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = path
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		for range inherited {
			cmd.ExtraFiles = append(cmd.ExtraFiles, null)
		}
		return runProcess(t, cmd)
	}
	r := limited("110", 0, "-connections", "20", "-workers", "20", "-duration", "100ms")
	if r.status != exitFailed || !strings.Contains(r.stderr, "-connections 20: the descriptor limit 110 allows") {
		t.Errorf("got exit status %d, %q", r.status, r.stderr)
	}
	// The check does not count inherited descriptors, so creating a worker fails.
	r = limited("110", 90, "-connections", "10", "-workers", "10", "-duration", "100ms")
	if r.status != exitFailed || !strings.Contains(r.stderr, "too many open files") || strings.Contains(r.stderr, "panic") {
		t.Errorf("got exit status %d, %q", r.status, r.stderr)
	}
}
