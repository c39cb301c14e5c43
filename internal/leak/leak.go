// Package leak helps tests: it detects goroutines and descriptors that the tests of a package leak,
// and runs a test in a process with few descriptors.
package leak

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Hangups makes the process stop ignoring SIGHUP, if it inherited that from nohup(1). Otherwise the
// programs that a test starts would ignore the signal, too.
func Hangups() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

// Run runs the tests of a package, and checks after the last one that they have leaked no
// goroutines and descriptors. It returns the exit status for TestMain.
func Run(m *testing.M) int {
	Hangups()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // opens the descriptors that Go's own poller keeps
		l.Close()
	}
	before := count()
	code := m.Run()
	if fuzzing := flag.Lookup("test.fuzz").Value.String() != ""; fuzzing {
		return code // the fuzzer's own goroutines go on running
	}
	if after, ok := waitFor(before); code == 0 && !ok {
		fmt.Fprintf(os.Stderr, "leak: %d goroutines and %d descriptors after the tests, want at most %d and %d\n",
			after[0], after[1], before[0], before[1])
		return 1
	}
	return code
}

// count returns the number of goroutines and of open descriptors.
func count() [2]int {
	open, _ := os.ReadDir("/proc/self/fd")
	return [2]int{runtime.NumGoroutine(), len(open)}
}

// waitFor waits until there are no more goroutines and descriptors than before, and reports whether
// that happened within 5 s: goroutines may need some time to end.
func waitFor(before [2]int) (after [2]int, ok bool) {
	for end := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		after = count()
		if after[0] <= before[0] && after[1] <= before[1] {
			return after, true
		}
		if time.Now().After(end) {
			return after, false
		}
	}
}

// Alone runs the calling test again, in a separate process that is limited to the given number of
// descriptors. It returns true in that process. In the calling process it returns false, after it
// has reported an error if the test failed; the test must then return.
func Alone(t *testing.T, descriptors uint64) bool {
	t.Helper()
	const variable = "WSECHO_TEST_DESCRIPTORS"
	if os.Getenv(variable) != "" {
		limit := unix.Rlimit{Cur: descriptors, Max: descriptors}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal("setrlimit:", err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+strconv.FormatUint(descriptors, 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a process with %d descriptors: %v\n%s", descriptors, err, out)
	}
	return false
}
