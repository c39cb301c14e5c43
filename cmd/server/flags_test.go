package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFlagsAndEnvironment(t *testing.T) {
	t.Setenv("WSECHO_LISTEN", "127.0.0.1:1, unix:/a")
	t.Setenv("WSECHO_WORKERS", "7")
	t.Setenv("WSECHO_IDLE_TIMEOUT", "90s")
	t.Setenv("WSECHO_ORIGINS", "example.com,example.org:8080")
	t.Setenv("WSECHO_VERSION", "1.2.3") // a deployment's own, and no reason not to start
	s, err := parse([]string{"-workers", "3", "-max-message", "1MiB", "-subprotocols", "chat"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.listen.String(), "127.0.0.1:1,unix:/a"; got != want {
		t.Errorf("-listen %s, want %s", got, want)
	}
	if s.workers != 3 {
		t.Errorf("-workers %d: the command line comes before the environment", s.workers)
	}
	if s.idleTimeout != 90*time.Second || s.maxMessage != 1<<20 || s.version {
		t.Errorf("%+v", s)
	}
	if got := s.origins.String(); s.origins.any || got != "example.com,example.org:8080" {
		t.Errorf("-origins %s", got)
	}
	if want := (choice[string]{members: []string{"chat"}}); !reflect.DeepEqual(s.subprotocols, want) {
		t.Errorf("-subprotocols %+v, want %+v", s.subprotocols, want)
	}
}

// What could never match is refused at the start, and not connection by connection.
func TestListsThatMatchNothing(t *testing.T) {
	for _, c := range []struct{ flag, value, cause string }{
		{"origins", "https://app.example.com", "it has a scheme"},
		{"origins", "*", "\"any\" admits every origin"},
		{"origins", "app.example.com/", "it has a path"},
		{"origins", "app.example.com,https://b.example", "has the member \"https://b.example\", which is not a host"},
		{"origins", "any,app.example.com", "any must stand alone"},
		{"origins", "app.example.com, Any", "any must stand alone"},
		{"origins", "ANY", "lower case"},
		{"origins", "\"app.example.com\"", "a host name has no '\"'"},
		{"origins", "'any'", "a host name has no"},
		{"origins", "app.example.com:0", "not a number from 1 to 65535"},
		{"origins", "app.example.com,", "empty member"},
		{"origins", " ", "empty member"},
		{"subprotocols", "a b", "is not a token"},
		{"subprotocols", "chat,soap/1", "has the member \"soap/1\", which is not a token"},
		{"subprotocols", "\"chat\"", "is not a token"},
		{"subprotocols", "'chat'", "in quotes"},
		{"subprotocols", "chät", "is not a token"},
		{"subprotocols", "chat, soap, chat", "has the member \"chat\", which is there twice"},
		{"subprotocols", "any,chat", "any must stand alone"},
		{"subprotocols", ",chat", "empty member"},
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
			t.Errorf("%v; want %q", err, words)
			return
		}
	}
}

func TestLists(t *testing.T) {
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
			t.Errorf("-%s %q is %q, want %q", c.flag, c.value, got, c.want)
		}
	}
}

func TestListenIsRepeated(t *testing.T) {
	s, err := parse([]string{"-listen", ":1", "-listen", "[::1]:2,:3"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.listen.String(), ":1,[::1]:2,:3"; got != want {
		t.Errorf("-listen %s, want %s", got, want)
	}
}

// What -h and the README say of the flags is what they are.
func TestFlagsAreExplained(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var explained bytes.Buffer
	help(&explained)
	_, fs := newSettings()
	fs.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(explained.String(), "  -"+f.Name+" ") {
			t.Errorf("-h does not explain -%s", f.Name)
		}
		if !strings.Contains(string(readme), "| `-"+f.Name+"` |") {
			t.Errorf("the README does not explain -%s", f.Name)
		}
		_, row, _ := strings.Cut(string(readme), "| `-"+f.Name+"` |")
		row, _, _ = strings.Cut(row, "\n")
		byDefault, isTime := strings.CutSuffix(f.DefValue, "m0s")
		if isTime {
			byDefault += "m"
		}
		switch f.Name {
		case "workers", "max-conns", "version": // depend on the machine
		default:
			if !strings.Contains(row, strings.TrimSuffix(byDefault, "s")) {
				t.Errorf("the README has -%s with another default than %q", f.Name, f.DefValue)
			}
		}
	})
}

func TestVersionAndHelp(t *testing.T) {
	for arg, want := range map[string]string{"-version": "commit", "-h": "usage:", "--help": "usage:"} {
		status, stdout, stderr := runs(t, arg)
		if status != 0 || stderr != "" {
			t.Errorf("%s: exit status %d, %q", arg, status, stderr)
		}
		if !strings.Contains(stdout, want) {
			t.Errorf("%s prints %q", arg, stdout)
		}
	}
}

// full is an output that takes no more than so many bytes.
type full int

func (f *full) Write(b []byte) (int, error) {
	n := min(len(b), int(*f))
	if *f -= full(n); n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// Output that is lost is no success.
func TestStdoutIsFull(t *testing.T) {
	for _, arg := range []string{"-version", "-h", "-check"} {
		for _, room := range []full{0, 10} {
			var stderr bytes.Buffer
			if status := run([]string{arg}, &room, &stderr, nil); status != exitFailed ||
				strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), "no space left") {
				t.Errorf("%s: exit status %d, %q; want one line", arg, status, stderr.String())
			}
		}
	}
}
