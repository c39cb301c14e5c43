package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFlagsOverrideEnvironment(t *testing.T) {
	t.Setenv("WSECHO_LISTEN", "127.0.0.1:1, unix:/a")
	t.Setenv("WSECHO_WORKERS", "7")
	t.Setenv("WSECHO_IDLE_TIMEOUT", "90s")
	t.Setenv("WSECHO_ORIGINS", "example.com,example.org:8080")
	t.Setenv("WSECHO_VERSION", "1.2.3") // belongs to the deployment, and must not fail the start
	s, err := parse([]string{"-workers", "3", "-max-message", "1MiB", "-subprotocols", "chat"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.listen.String(), "127.0.0.1:1,unix:/a"; got != want {
		t.Errorf("-listen %s, want %s", got, want)
	}
	if s.workers != 3 {
		t.Errorf("-workers %d, want 3: the command line overrides the environment", s.workers)
	}
	if s.idleTimeout != 90*time.Second || s.maxMessage != 1<<20 || s.version {
		t.Errorf("got %+v, want -idle-timeout 90s, -max-message 1MiB and no -version", s)
	}
	if got := s.origins.String(); s.origins.any || got != "example.com,example.org:8080" {
		t.Errorf("-origins %s, want example.com,example.org:8080", got)
	}
	if want := (choice[string]{members: []string{"chat"}}); !reflect.DeepEqual(s.subprotocols, want) {
		t.Errorf("-subprotocols %+v, want %+v", s.subprotocols, want)
	}
}

// A list member that could never match is a usage error.
func TestInvalidListMembers(t *testing.T) {
	for _, c := range []struct{ flag, value, cause string }{
		{"origins", "https://app.example.com", "it has a scheme"},
		{"origins", "*", "\"any\" admits every origin"},
		{"origins", "app.example.com/", "it has a path"},
		{"origins", "app.example.com,https://b.example", "has the member \"https://b.example\", which is not a host"},
		{"origins", "any,app.example.com", "any must stand alone"},
		{"origins", "app.example.com, Any", "any must stand alone"},
		{"origins", "ANY", "lower case"},
		{"origins", "\"app.example.com\"", "a host name cannot contain '\"'"},
		{"origins", "'any'", "a host name cannot contain"},
		{"origins", "app.example.com:0", "not a number from 1 to 65535"},
		{"origins", "app.example.com,", "empty item"},
		{"origins", " ", "empty item"},
		{"subprotocols", "a b", "is not a token"},
		{"subprotocols", "chat,soap/1", "has the member \"soap/1\", which is not a token"},
		{"subprotocols", "\"chat\"", "is not a token"},
		{"subprotocols", "'chat'", "in quotes"},
		{"subprotocols", "chät", "is not a token"},
		{"subprotocols", "chat, soap, chat", "has the member \"chat\", which is in the list twice"},
		{"subprotocols", "any,chat", "any must stand alone"},
		{"subprotocols", ",chat", "empty item"},
	} {
		_, err := parse([]string{"-" + c.flag, c.value})
		wantsError(t, err, "-"+c.flag, fmt.Sprintf("%q", c.value), c.cause)

		variable := envPrefix + "_" + strings.ToUpper(c.flag)
		t.Setenv(variable, c.value)
		_, err = parse(nil)
		wantsError(t, err, variable, fmt.Sprintf("%q", c.value), c.cause)
		os.Unsetenv(variable)
	}
}

func wantsError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got error %v, want %q in it", err, words)
			return
		}
	}
}

func TestListsAreNormalized(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"origins", "Example.com , *.example.com:443,[::1],null", "example.com,*.example.com:443,[::1],null"},
		{"origins", "any", "any"},
		{"origins", " any ", "any"},
		{"subprotocols", "chat, Chat,any1,it's", "chat,Chat,any1,it's"},
		{"subprotocols", "any", "any"},
	} {
		s, err := parse([]string{"-" + c.flag, c.value})
		if err != nil {
			t.Errorf("-%s %q: %v", c.flag, c.value, err)
			continue
		}
		got := s.origins.String()
		if c.flag == "subprotocols" {
			got = s.subprotocols.String()
		}
		if got != c.want {
			t.Errorf("-%s %q: got %q, want %q", c.flag, c.value, got, c.want)
		}
	}
}

func TestListenMayBeRepeated(t *testing.T) {
	s, err := parse([]string{"-listen", ":1", "-listen", "[::1]:2,:3"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.listen.String(), ":1,[::1]:2,:3"; got != want {
		t.Errorf("-listen %s, want %s", got, want)
	}
}

// explained matches a flag in the text of -h, with its default if it has one.
var explained = regexp.MustCompile(`(?m)^  -([a-z-]+) .*\n   .*?(?: \(default (.*)\))?$`)

// flagRow matches a row of the table of flags in docs/flags.md.
var flagRow = regexp.MustCompile("(?m)^\\| `-([a-z-]+)` \\| `([^`]+)` \\| ([^|]+) \\|$")

// -h explains every flag. The table in docs/flags.md has the same flags, with the same defaults.
func TestHelpAndDocumentListEveryFlag(t *testing.T) {
	page, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	help(&text)
	inHelp := map[string]string{} // defaults by flag
	for _, m := range explained.FindAllStringSubmatch(text.String(), -1) {
		inHelp[m[1]] = cmp.Or(m[2], "none")
	}
	_, fs := newSettings()
	fs.VisitAll(func(f *flag.Flag) {
		if got, ok := inHelp[f.Name]; !ok || got != cmp.Or(f.DefValue, "none") {
			t.Errorf("-h has -%s: %v, with default %q; want default %q", f.Name, ok, got, cmp.Or(f.DefValue, "none"))
		}
	})
	inHelp["workers"] = "GOMAXPROCS" // -h has this machine's value

	_, table, _ := strings.Cut(string(page), "\n## Flags\n")
	table, _, _ = strings.Cut(table, "\n## ")
	inTable := map[string]string{}
	for _, m := range flagRow.FindAllStringSubmatch(table, -1) {
		if _, twice := inTable[m[1]]; twice {
			t.Errorf("the table has two rows for -%s", m[1])
		}
		inTable[m[1]] = m[2]
	}
	if rows := strings.Count(table, "\n| `-"); rows != len(inTable) {
		t.Errorf("the table has %d rows of flags, %d of them with flag, default and meaning", rows, len(inTable))
	}
	for name, byDefault := range inHelp {
		if got, ok := inTable[name]; !ok {
			t.Errorf("the table lacks -%s", name)
		} else if got != byDefault {
			t.Errorf("the table's default of -%s is %q, want %q as in -h", name, got, byDefault)
		}
	}
	for name := range inTable {
		if _, ok := inHelp[name]; !ok {
			t.Errorf("the table has -%s, which -h does not have", name)
		}
	}
}

func TestVersionAndHelpPrintToStdout(t *testing.T) {
	for arg, want := range map[string]string{"-version": "commit", "-h": "usage:", "--help": "usage:"} {
		status, stdout, stderr := runs(t, arg)
		if status != 0 || stderr != "" {
			t.Errorf("%s: exit status %d, stderr %q; want 0 and nothing", arg, status, stderr)
		}
		if !strings.Contains(stdout, want) {
			t.Errorf("%s: stdout %q, want %q in it", arg, stdout, want)
		}
	}
}

// full is a writer that accepts its value in bytes, and then fails with ENOSPC.
type full int

func (f *full) Write(b []byte) (int, error) {
	n := min(len(b), int(*f))
	if *f -= full(n); n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// Output that stdout does not take makes the program fail.
func TestFullStdoutIsAFailure(t *testing.T) {
	for _, arg := range []string{"-version", "-h", "-check"} {
		for _, room := range []full{0, 10} {
			var stderr bytes.Buffer
			if status := run([]string{arg}, &room, &stderr, nil); status != exitFailed ||
				strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), "no space left") {
				t.Errorf("%s: exit status %d, stderr %q; want %d and one line", arg, status, stderr.String(), exitFailed)
			}
		}
	}
}
