package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a process that runs the real binary.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string        // address of the listener
	admin  string        // address of the admin server
	exited chan struct{} // closed once the process has ended and its log is complete

	mu  sync.Mutex // protects log
	log []string   // lines written to stderr
}

// start starts the server on free ports and returns once it serves. If the test does not stop the
// server, the test's cleanup does, and wants a clean exit.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	return startCmd(t, exec.Command(wsecho, onAnyPort(flags)...))
}

func onAnyPort(flags []string) []string {
	return append([]string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log", "json"}, flags...)
}

// startCmd starts the server with another command, whose process becomes the server.
func startCmd(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd, exited: make(chan struct{})}
	if raceEnabled {
		// By default the race detector sleeps for 1 s at exit.
		s.cmd.Env = append(s.cmd.Environ(), "GORACE=atexit_sleep_ms=50")
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cleanUp)
	serving := make(chan [2]string, 1)
	go s.follow(stderr, serving)
	select {
	case at := <-serving:
		s.addr, s.admin = at[0], at[1]
	case <-s.exited:
		t.Fatalf("the server exited before it logged \"serving\": %v", s.cmd.ProcessState)
	case <-time.After(waitTimeout):
		t.Fatal("the server did not log \"serving\"")
	}
	return s
}

// follow collects the log until the process ends, and sends the addresses of the log line
// "serving".
func (s *server) follow(stderr io.Reader, serving chan<- [2]string) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		s.mu.Lock()
		s.log = append(s.log, lines.Text())
		s.mu.Unlock()
		var entry struct {
			Msg    string
			Listen []string
			Admin  string
		}
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" && len(entry.Listen) > 0 {
			serving <- [2]string{entry.Listen[0], entry.Admin}
		}
	}
	s.cmd.Wait() // the result is in ProcessState
	close(s.exited)
}

func (s *server) url() string { return "ws://" + s.addr + "/" }

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("%v: %v", sig, err)
	}
}

// stop sends SIGTERM and wants a clean drain.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.wantStopped()
}

// wantStopped waits for the end of a clean drain: exit status 0 and a last log line "stopped".
func (s *server) wantStopped() {
	s.t.Helper()
	if code := s.exitCode(); code != 0 {
		s.t.Errorf("got exit status %d after a drain, want 0", code)
	}
	var last struct{ Msg string }
	line := s.lastLine()
	if err := json.Unmarshal([]byte(line), &last); err != nil || last.Msg != "stopped" {
		s.t.Errorf("got last log line %q, want msg=stopped", line)
	}
}

// exitCode waits for the process to end and returns its exit status.
func (s *server) exitCode() int {
	s.t.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(waitTimeout):
		s.t.Fatal("the server did not exit")
		return 0
	}
}

func (s *server) lastLine() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) == 0 {
		return ""
	}
	return s.log[len(s.log)-1]
}

// cleanUp stops the server if the test has not, and logs its stderr if the test failed.
func (s *server) cleanUp() {
	select {
	case <-s.exited:
	default:
		s.signal(syscall.SIGTERM)
		select {
		case <-s.exited:
			s.wantStopped()
		case <-time.After(waitTimeout):
			s.t.Error("the server did not exit after SIGTERM")
			s.cmd.Process.Kill()
			<-s.exited
		}
	}
	if s.t.Failed() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Logf("the server's stderr:\n%s", strings.Join(s.log, "\n"))
	}
}

// descriptors returns the number of the server's open descriptors.
func (s *server) descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.pid()), "fd"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(open)
}

// wantDescriptors waits until the server has no more open descriptors than before, so none has
// leaked.
func (s *server) wantDescriptors(before int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the server has at most %d open descriptors", before), func() bool { return s.descriptors() <= before })
}

// residentBytes returns the server's resident memory (VmRSS) in bytes.
func (s *server) residentBytes() int {
	s.t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.pid()), "status"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(rest, "kB")
	kib, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.t.Fatal("no VmRSS in /proc/PID/status")
	}
	return kib << 10
}
