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

// server is one run of the real binary.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string        // where it listens
	admin  string        // where operators ask
	exited chan struct{} // closed once the process is gone and its log complete

	mu  sync.Mutex // guards log
	log []string   // what it has written to stderr, line by line
}

// start runs the server on a port of the kernel's choice and returns once it serves.
// If the test does not stop it, the test's end does, and wants a clean exit all the same.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	return startBy(t, exec.Command(wsecho, onAnyPort(flags)...))
}

func onAnyPort(flags []string) []string {
	return append([]string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log", "json"}, flags...)
}

// startBy is start by another command, which comes to be the server.
func startBy(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd, exited: make(chan struct{})}
	if raceEnabled {
		// Its race detector would sleep a second at every exit.
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
		t.Fatalf("the server left before it served: %v", s.cmd.ProcessState)
	case <-time.After(patience):
		t.Fatal("the server never said that it serves")
	}
	return s
}

// follow collects the log until the process ends, and passes on the addresses it serves.
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
	s.cmd.Wait() // its answer is in ProcessState
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

// stop asks for a drain and wants it clean.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.wantStopped()
}

// wantStopped waits for the end of a clean drain: status 0, and a last line that says so.
func (s *server) wantStopped() {
	s.t.Helper()
	if code := s.exitCode(); code != 0 {
		s.t.Errorf("exit status %d after a drain, want 0", code)
	}
	var last struct{ Msg string }
	line := s.lastLine()
	if err := json.Unmarshal([]byte(line), &last); err != nil || last.Msg != "stopped" {
		s.t.Errorf("the last line of the log is %q, want one with msg=stopped", line)
	}
}

// exitCode waits for the process to end.
func (s *server) exitCode() int {
	s.t.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		s.t.Fatal("the server does not exit")
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

// cleanUp leaves no process behind, whatever became of the test.
func (s *server) cleanUp() {
	select {
	case <-s.exited:
	default:
		s.signal(syscall.SIGTERM)
		select {
		case <-s.exited:
			s.wantStopped()
		case <-time.After(patience):
			s.t.Error("the server ignores SIGTERM")
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

// descriptors counts what the server holds open.
func (s *server) descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.pid()), "fd"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(open)
}

// wantDescriptors waits until the server holds as many as it did before: closed connections are gone, not leaked.
func (s *server) wantDescriptors(before int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the server is back at %d descriptors", before), func() bool { return s.descriptors() <= before })
}

// residentBytes is the server's VmRSS.
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
		s.t.Fatal("no VmRSS in the process status")
	}
	return kib << 10
}
