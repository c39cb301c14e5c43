package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server is a process that runs the real binary.
type server struct {
	t        *testing.T
	cmd      *exec.Cmd
	addr     string
	maxConns int // limit of connections, from the log
	workers  int
	log      chan map[string]any
	exited   chan struct{} // closed once the process has ended and its log is read

	mu    sync.Mutex // protects stray
	stray []string   // lines that are not JSON, such as those of a panic
}

// wsecho builds the server once.
var wsecho = sync.OnceValues(func() (path string, err error) {
	path = scratch + "/wsecho"
	args := []string{"build", "-o", path}
	if underRace {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "wsecho/cmd/server")...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})

// start starts a server with flags. A value of descriptors above 0 limits its open descriptors.
func start(t *testing.T, descriptors int, flags ...string) *server {
	t.Helper()
	path, err := wsecho()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{path, "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log", "json"}, flags...)
	if descriptors > 0 {
		args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, descriptors)}, args...)
	}
	s := &server{t: t, cmd: exec.Command(args[0], args[1:]...), log: make(chan map[string]any, 1024), exited: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.readLog(bufio.NewScanner(stderr))
		_ = s.cmd.Wait() // ProcessState has the result
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	serving := s.wantsLog("serving")
	s.addr = serving["listen"].([]any)[0].(string)
	s.maxConns = int(serving["max_conns"].(float64))
	s.workers = int(serving["workers"].(float64))
	return s
}

func (s *server) readLog(lines *bufio.Scanner) {
	defer close(s.log)
	for lines.Scan() {
		var record map[string]any
		if json.Unmarshal(lines.Bytes(), &record) != nil {
			s.mu.Lock()
			s.stray = append(s.stray, lines.Text())
			s.mu.Unlock()
			continue
		}
		s.log <- record
	}
}

// wantsLog waits for the record with the given message. Any other warning or error fails the test,
// except for warnings with a count: refusals and shortages are what the faults provoke.
func (s *server) wantsLog(msg string) map[string]any {
	s.t.Helper()
	deadline := time.After(waitTimeout)
	for {
		select {
		case record, ok := <-s.log:
			switch {
			case !ok:
				s.t.Fatalf("the server's log ended before %q: %s", msg, s.strayOutput())
			case record["level"] != "INFO" && record["count"] == nil:
				s.t.Errorf("unexpected log record: %v", record)
			case record["msg"] == msg:
				return record
			}
		case <-deadline:
			s.t.Fatalf("no log line %q", msg)
		}
	}
}

// strayOutput returns the lines of the server's stderr that are not log records.
func (s *server) strayOutput() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.stray, "\n")
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal the server: %v", err)
	}
}

// kill kills the process, and waits for its end.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // the process may have ended
	for range s.log {
	}
	<-s.exited
}

// stop waits for the end of a server that was sent SIGTERM, wants exit status 0, and returns its
// totals.
func (s *server) stop() *totals {
	s.t.Helper()
	record := s.wantsLog("stopped")
	select {
	case <-s.exited:
	case <-time.After(waitTimeout):
		s.t.Fatal("the server logged that it stopped, but has not exited")
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		s.t.Errorf("got exit status %d, want 0: %s", status, s.strayOutput())
	}
	if c := s.strayOutput(); c != "" {
		s.t.Errorf("unexpected output of the server: %s", c)
	}
	return readTotals(s.t, record)
}

// totals holds the server's counters, from its log record "stopped".
type totals struct {
	Accepted int
	Upgraded int
	Messages int
	Frames   int
	BytesIn  int `json:"bytes_in"`
	BytesOut int `json:"bytes_out"`
	Refused  map[string]int
	Ended    map[string]int
	Codes    map[string]int
}

func readTotals(t *testing.T, record map[string]any) *totals {
	t.Helper()
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	var sum totals
	if err := json.Unmarshal(text, &sum); err != nil {
		t.Fatalf("totals: %v in %s", err, text)
	}
	return &sum
}

// peak returns the server's highest resident memory in bytes since the last forgetPeak.
func (s *server) peak() int { return s.status("VmHWM:") }

func (s *server) forgetPeak() {
	// proc_pid_clear_refs(5): writing 5 resets VmHWM to the current value.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid()), []byte("5"), 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) status(field string) int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				s.t.Fatal(err)
			}
			return kb << 10
		}
	}
	s.t.Fatalf("no %s in /proc/PID/status of the server", field)
	return 0
}

// cpu returns the CPU time that the server has used.
func (s *server) cpu() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	// proc_pid_stat(5): utime and stime are the 12th and 13th field after the name, in units of
	// 10 ms on every Linux that Go runs on.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	user, err1 := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	if err1 != nil || err2 != nil {
		s.t.Fatalf("no CPU times in /proc/PID/stat: %s", text)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// scheduled returns the times for which the server's threads ran on a CPU and waited for one
// (Documentation/scheduler/sched-stats.rst); zero if the kernel has no such statistics.
func (s *server) scheduled() (ran, waited time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.pid()))
	for _, thread := range threads {
		var r, w time.Duration
		if text, err := os.ReadFile(thread); err == nil {
			if _, err := fmt.Sscan(string(text), &r, &w); err == nil {
				ran, waited = ran+r, waited+w
			}
		}
	}
	return ran, waited
}

// descriptors returns the number of the server's open descriptors below a limit. Descriptors above
// it may be inherited.
func (s *server) descriptors(limit int) (n int) {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd < limit {
			n++
		}
	}
	return n
}

// allowDescriptors changes the descriptor limit of the running server.
func (s *server) allowDescriptors(n int) {
	s.t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(s.pid(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		s.t.Fatal(err)
	}
	limit.Cur = min(uint64(n), limit.Max)
	if err := unix.Prlimit(s.pid(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		s.t.Fatal(err)
	}
}
