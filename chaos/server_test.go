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

// A server is the real binary, in a process of its own.
type server struct {
	t       *testing.T
	cmd     *exec.Cmd
	addr    string
	most    int // connections
	workers int
	log     chan map[string]any
	exited  chan struct{} // closed when the process is gone, its log read and its status known

	mu    sync.Mutex // protects stray
	stray []string   // lines that are not in the log's format, such as a panic's
}

// wsecho builds the server, once.
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

// start starts a server with flags. With descriptors above 0 that is its limit of them.
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
		_ = s.cmd.Wait() // ProcessState says it again
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	serving := s.wantsLog("serving")
	s.addr = serving["listen"].([]any)[0].(string)
	s.most = int(serving["max_conns"].(float64))
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

// wantsLog waits for the record with the given message. A record that tells of a failure is one;
// warnings with a count, of refusals and of scarcity, are what the faults are after.
func (s *server) wantsLog(msg string) map[string]any {
	s.t.Helper()
	deadline := time.After(soon)
	for {
		select {
		case record, ok := <-s.log:
			switch {
			case !ok:
				s.t.Fatalf("the server's log ended before %q: %s", msg, s.complaint())
			case record["level"] != "INFO" && record["count"] == nil:
				s.t.Errorf("the server says: %v", record)
			case record["msg"] == msg:
				return record
			}
		case <-deadline:
			s.t.Fatalf("no log line %q", msg)
		}
	}
}

// complaint is what the server has written that is no log.
func (s *server) complaint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.stray, "\n")
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("the server is gone: %v", err)
	}
}

// kill ends what is left of the process.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may be gone
	for range s.log {
	}
	<-s.exited
}

// stop reads the totals of a server that was told to end, and wants exit status 0.
func (s *server) stop() *totals {
	s.t.Helper()
	record := s.wantsLog("stopped")
	select {
	case <-s.exited:
	case <-time.After(soon):
		s.t.Fatal("the server has said that it stopped, and goes on")
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		s.t.Errorf("exit status %d: %s", status, s.complaint())
	}
	if c := s.complaint(); c != "" {
		s.t.Errorf("the server says: %s", c)
	}
	return readTotals(s.t, record)
}

// totals are what the server has counted, by its own account.
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

// peak is the most resident memory that the server has had, in bytes, since
// the last forgetPeak.
func (s *server) peak() int { return s.status("VmHWM:") }

func (s *server) forgetPeak() {
	// proc_pid_clear_refs(5): 5 resets VmHWM to the present.
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
	s.t.Fatalf("no %s in the server's status", field)
	return 0
}

// cpu is the processor time that the server has used.
func (s *server) cpu() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	// proc_pid_stat(5): utime and stime are the 12th and 13th field behind the name,
	// in hundredths of a second on every Linux that Go runs on.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	user, err1 := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	if err1 != nil || err2 != nil {
		s.t.Fatalf("no times in %s", text)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// scheduled is the time for which the server's threads had a processor, and
// that for which they wanted one and had to wait, in the order of
// Documentation/scheduler/sched-stats.rst; zero where the kernel does not say.
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

// descriptors counts what the server has open below a limit. (Above it may be
// what it has inherited.)
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

// allowDescriptors changes the limit of a server that runs.
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
