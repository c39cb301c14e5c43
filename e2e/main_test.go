package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// waitTimeout is the time after which a condition that has not come true is a failure.
const waitTimeout = 15 * time.Second

// wsecho is the path of the server under test.
var wsecho string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run runs the tests and returns the exit status. It is separate from TestMain, because os.Exit
// would skip the removal of its temporary directory.
func run(m *testing.M) int {
	wsecho = os.Getenv("WSECHO_BIN")
	if wsecho == "" {
		dir, err := os.MkdirTemp("", "wsecho-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		wsecho = filepath.Join(dir, "wsecho")
		if err := build(wsecho, "wsecho/cmd/server"); err != nil {
			fmt.Fprintln(os.Stderr, "build the server:", err)
			return 1
		}
	}
	status := m.Run()
	for _, line := range skipped {
		fmt.Println("skipped:", line) // go test prints this only with -v
	}
	return status
}

// skipped lists the tests that this machine could not run, with the reasons. It has no lock, since
// no test that may be skipped is parallel.
var skipped []string

func build(output, pkg string) error {
	args := []string{"build", "-o", output}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// unavailable skips a test that this machine cannot run. With CI=true it fails the test, because CI
// must run every test.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("required in CI: "+format, args...)
	}
	skipped = append(skipped, t.Name()+": "+fmt.Sprintf(format, args...))
	t.SkipNow()
}

// eventually polls a condition until it is true, and fails the test if that takes longer than
// waitTimeout. what completes the message "timed out waiting until …".
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitTimeout); !yes(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}
