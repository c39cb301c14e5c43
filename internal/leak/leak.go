// Package leak is for tests: what they leave behind, and what they do where
// there is little.
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

// Hangups undoes an inherited ignore of SIGHUP, as under nohup(1), which the programs that a test starts
// would inherit in turn, and honour.
func Hangups() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

// Run runs the tests of a package and checks once, for all of them, that
// nothing is left open or running. It returns the exit status.
func Run(m *testing.M) int {
	Hangups()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // Go's own poller opens what it keeps
		l.Close()
	}
	before := leftovers()
	code := m.Run()
	if fuzzing := flag.Lookup("test.fuzz").Value.String() != ""; fuzzing {
		return code // the fuzzer leaves goroutines of its own
	}
	if after, ok := back(before); code == 0 && !ok {
		fmt.Fprintf(os.Stderr, "goroutines and descriptors were %v, and are %v\n", before, after)
		return 1
	}
	return code
}

// leftovers counts goroutines and descriptors.
func leftovers() [2]int {
	open, _ := os.ReadDir("/proc/self/fd")
	return [2]int{runtime.NumGoroutine(), len(open)}
}

// back says whether there are no more leftovers than before, once goroutines that
// are about to end have had the time to.
func back(before [2]int) (after [2]int, ok bool) {
	for end := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		after = leftovers()
		if after[0] <= before[0] && after[1] <= before[1] {
			return after, true
		}
		if time.Now().After(end) {
			return after, false
		}
	}
}

// Alone runs the rest of the calling test in a process of its own that may
// have only so many descriptors. In the first process it returns false.
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
