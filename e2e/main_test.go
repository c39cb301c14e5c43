package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long a test waits for what should take a moment. It is only ever used up by a failure.
const patience = 15 * time.Second

// wsecho is the path of the server under test.
var wsecho string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run is TestMain with a return, so that its temporary directory goes away.
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
			fmt.Fprintln(os.Stderr, "cannot build the server:", err)
			return 1
		}
	}
	status := m.Run()
	for _, line := range skipped {
		fmt.Println("skipped:", line) // which go test does not say by itself
	}
	return status
}

// skipped are the tests that this machine could not run, and why. No test that skips is parallel.
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

// unavailable skips a test that this machine cannot run. CI is where every test must run, so there it fails.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have it: "+format, args...)
	}
	skipped = append(skipped, t.Name()+": "+fmt.Sprintf(format, args...))
	t.SkipNow()
}

// eventually asks again and again until it is told yes, or patience ends. what completes "waited in vain until …".
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !yes(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
