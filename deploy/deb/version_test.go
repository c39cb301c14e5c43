// Package deb holds the Debian package: build.sh builds it, test.sh tests it.
package deb

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Every version is valid for dpkg, and higher than the one before it in the table.
func TestVersionsAreValidAndIncrease(t *testing.T) {
	var last string
	for _, c := range []struct{ version, date, want string }{
		{"0.2.0-dev", "20260131120000", "0.2.0~dev+20260131120000"},
		{"0.2.0-dev+gabcdef0", "20260201000000", "0.2.0~dev+20260201000000.gabcdef0"},
		{"0.2.0-dev+gabcdef0.dirty", "20260201000000", "0.2.0~dev+20260201000000.gabcdef0.dirty"},
		{"0.2.0-dev+g0bcdef0", "20260202000000", "0.2.0~dev+20260202000000.g0bcdef0"},
		{"0.2.0-rc.1", "20260301000000", "0.2.0~rc.1"},
		{"0.2.0-rc_2/x", "20260301000000", "0.2.0~rc.2.x"},
		{"0.2.0", "20260401000000", "0.2.0"},
		{"0.2.0+dirty", "20260401000000", "0.2.0+dirty"},
		{"0.3.0-dev+g0000000", "20260402000000", "0.3.0~dev+20260402000000.g0000000"},
		{"0.3.0", "20260501000000", "0.3.0"},
	} {
		out, err := exec.Command("./version.sh", c.version, c.date).CombinedOutput()
		got := strings.TrimSuffix(string(out), "\n")
		if err != nil || got != c.want {
			t.Errorf("version.sh %s prints %q, err %v; want %q", c.version, got, err, c.want)
		}
		dpkg(t, "--validate-version", got)
		if last != "" {
			dpkg(t, "--compare-versions", last, "lt", got)
		}
		last = got
	}
}

// dpkg runs dpkg, and fails the test if its exit status is not 0.
func dpkg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs this program: ", err)
		}
		t.Skip(err)
	}
	if out, err := exec.Command("dpkg", args...).CombinedOutput(); err != nil {
		t.Errorf("dpkg %s: %v %s", strings.Join(args, " "), err, out)
	}
}
