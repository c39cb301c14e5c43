// Package systemd holds the systemd units, and tests that check them with systemd-analyze. e2e
// tests the server's interface to systemd without systemd; test/run.sh runs the units under a real
// one.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const maxExposure = "15" // tenths: 1.5 in the scale of systemd-analyze security

// analyze runs systemd-analyze and returns its output.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	const program = "systemd-analyze"
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs this program: ", err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// units writes copies of the units, changed by edit, whose ExecStart program exists, and returns
// their paths.
func units(t *testing.T, edit *strings.Replacer) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	started := regexp.MustCompile(`(?m)^ExecStart=\S+`)
	for _, name := range []string{"wsecho.service", "wsecho.socket"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		text := edit.Replace(started.ReplaceAllString(string(unit), "ExecStart=/bin/sh"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestUnitsAreValid(t *testing.T) {
	verify := func(edit *strings.Replacer) (string, error) {
		return analyze(t, append([]string{"verify", "--man=no"}, units(t, edit)...)...)
	}
	if out, err := verify(strings.NewReplacer()); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := verify(strings.NewReplacer("LimitNOFILE=", "LimitNOFILES=")); err == nil && out == "" {
		t.Error("systemd-analyze verify accepts an unknown directive, want an error")
	}
}

func TestServiceExposureIsLow(t *testing.T) {
	security := func(edit *strings.Replacer) (string, error) {
		return analyze(t, "security", "--offline=true", "--threshold="+maxExposure, units(t, edit)[0])
	}
	out, err := security(strings.NewReplacer())
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
	if out, err := security(strings.NewReplacer("DynamicUser=yes", "User=root", "PrivateUsers=yes", "", "SystemCallFilter", "#")); err == nil {
		t.Errorf("systemd-analyze security accepts a service that runs as root, want an error:\n%s", out)
	}
}
