// Package systemd is the units, and this test of what systemd makes of them. e2e tests the server in them, without
// systemd; test/ runs them under a real one.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const mostExposed = "15" // tenths

// analyze runs systemd-analyze, whose output is returned.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	const program = "systemd-analyze"
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must have it: ", err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// units copies the units to where what they start exists, changed as edit says.
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

func TestUnitsAreRight(t *testing.T) {
	verify := func(edit *strings.Replacer) (string, error) {
		return analyze(t, append([]string{"verify", "--man=no"}, units(t, edit)...)...)
	}
	if out, err := verify(strings.NewReplacer()); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := verify(strings.NewReplacer("LimitNOFILE=", "LimitNOFILES=")); err == nil && out == "" {
		t.Error("systemd-analyze verify says nothing to a directive that does not exist")
	}
}

func TestServiceIsHardened(t *testing.T) {
	security := func(edit *strings.Replacer) (string, error) {
		return analyze(t, "security", "--offline=true", "--threshold="+mostExposed, units(t, edit)[0])
	}
	out, err := security(strings.NewReplacer())
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
	if out, err := security(strings.NewReplacer("DynamicUser=yes", "User=root", "PrivateUsers=yes", "", "SystemCallFilter", "#")); err == nil {
		t.Errorf("systemd-analyze security is content with a service run by root:\n%s", out)
	}
}
