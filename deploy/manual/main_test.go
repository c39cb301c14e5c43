package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program builds a program, and returns its path and the output of its -h.
func program(t *testing.T, pkg string) (path, helpText string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(path, "-h").Output()
	if err != nil {
		t.Fatal(err)
	}
	return path, string(out)
}

// The man pages of the real programs have every flag and variable, and the programs accept the
// defaults in the file of variables.
func TestPagesAndVariablesMatchHelp(t *testing.T) {
	for _, pkg := range []string{"wsecho/cmd/server", "wsecho/loadtest"} {
		t.Run(pkg, func(t *testing.T) {
			binary, helpText := program(t, pkg)
			h, err := parse(strings.NewReader(helpText))
			if err != nil {
				t.Fatal(err)
			}
			var roffed, variables bytes.Buffer
			h.writePage(&roffed, page{"1.2.3", "2026-01-31", "/etc/default/wsecho:its variables", "wsload(1)"})
			h.writeEnvironment(&variables)
			page := rendered(t, roffed.Bytes())

			flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(helpText, -1)
			if len(flags) < 10 {
				t.Fatalf("-h has %d flags, want at least 10", len(flags))
			}
			for _, f := range flags {
				if !regexp.MustCompile(`(?m)^ +-` + f[1] + `\b`).MatchString(page) {
					t.Errorf("the page lacks -%s", f[1])
				}
			}
			names := regexp.MustCompile(`WS[A-Z]+_[A-Z_]+`).FindAllString(helpText, -1)
			for _, name := range names {
				if !strings.Contains(page, name) || !strings.Contains(variables.String(), "\n#"+name+"=") {
					t.Errorf("the page or the file of variables lacks %s", name)
				}
			}
			for _, section := range []string{"NAME", "SYNOPSIS", "OPTIONS", "FILES", "SEE ALSO"} {
				if !strings.Contains(page, "\n"+section+"\n") {
					t.Errorf("the page lacks the section %s", section)
				}
			}

			cmd := exec.Command(binary, "-version")
			set := regexp.MustCompile(`(?m)^#(WS\w+=.+)$`).FindAllStringSubmatch(variables.String(), -1)
			for _, s := range set {
				cmd.Env = append(cmd.Env, s[1])
			}
			if out, err := cmd.CombinedOutput(); err != nil || len(set) < 5 {
				t.Errorf("with %d defaults in the environment, want at least 5: err %v\n%s", len(set), err, out)
			}
		})
	}
}

// rendered returns the page as man shows it. The test fails if the formatter reports a warning.
func rendered(t *testing.T, roffed []byte) string {
	t.Helper()
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs this program: ", err)
		}
		t.Skip(err)
	}
	cmd := exec.Command("groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=100n")
	cmd.Stdin = bytes.NewReader(roffed)
	var warnings bytes.Buffer
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, warnings.String())
	}
	return "\n" + string(out)
}

func TestOtherInputIsAnError(t *testing.T) {
	for _, text := range []string{"", "wsecho: cannot start", "wsecho is\n\nusage: wsecho\n"} {
		if _, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q is parsed as the output of -h, want an error", text)
		}
	}
}
