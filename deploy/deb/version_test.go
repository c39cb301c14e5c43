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
	for _, c := range []struct{ describe, date, want string }{
		{"abcdef0", "20260131120000", "0~20260131120000.gabcdef0"},
		{"0123456-dirty", "20260201000000", "0~20260201000000.g0123456+dirty"},
		{"v0.9.0", "20260301000000", "0.9.0"},
		{"v1.0.0-rc.1", "20260401000000", "1.0.0~rc.1"},
		{"v1.0.0-rc.1-12-gabcdef0", "20260402000000", "1.0.0~rc.1+12.gabcdef0"},
		{"v1.0.0-rc_2/x", "20260403000000", "1.0.0~rc.2.x"},
		{"v1.0.0", "20260501000000", "1.0.0"},
		{"v1.0.0-dirty", "20260501000000", "1.0.0+dirty"},
		{"v1.0.1-4-gabcdef0", "20260502000000", "1.0.1+4.gabcdef0"},
		{"v1.0.1-4-gabcdef0-dirty", "20260502000000", "1.0.1+4.gabcdef0+dirty"},
		{"v1.0.1-10-g0bcdef0", "20260503000000", "1.0.1+10.g0bcdef0"},
	} {
		out, err := exec.Command("./version.sh", c.describe, c.date).CombinedOutput()
		got := strings.TrimSuffix(string(out), "\n")
		if err != nil || got != c.want {
			t.Errorf("version.sh %s prints %q, err %v; want %q", c.describe, got, err, c.want)
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
