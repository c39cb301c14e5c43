package flags

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// program has a flag of each kind.
type program struct {
	number  int
	wait    time.Duration
	kind    string
	name    string
	size    ByteSize
	loud    bool
	version bool
}

func newProgram() (*program, *flag.FlagSet) {
	p := &program{}
	fs := NewSet("program")
	Var(fs, &p.number, "number", 7, Int(1, 100), "`count` of things")
	Var(fs, &p.wait, "wait", time.Second, Duration(0, time.Hour), "`time` to wait")
	Var(fs, &p.kind, "kind", "a", Word("a", "b"), "`what` it is")
	Var(fs, &p.name, "long-name", "", Text, "`text`, if any")
	Var(fs, &p.size, "size", 8<<10, Size(1, 1<<30), "`bytes`")
	fs.BoolVar(&p.loud, "loud", false, "be loud")
	Version(fs, &p.version)
	return p, fs
}

// A flag overrides its environment variable, which overrides the default.
func TestParse(t *testing.T) {
	t.Setenv("PROGRAM_NUMBER", "8")
	t.Setenv("PROGRAM_LONG_NAME", "from a variable")
	t.Setenv("PROGRAM_LOUD", "true")
	t.Setenv("PROGRAM_VERSION", "1.2.3") // ignored: deployments use it for other purposes
	t.Setenv("OTHER_WAIT", "5s")
	p, fs := newProgram()
	if err := Parse(fs, []string{"-number", "9", "--kind=b", "-size", "1MiB"}, "PROGRAM"); err != nil {
		t.Fatal(err)
	}
	if want := (program{9, time.Second, "b", "from a variable", 1 << 20, true, false}); *p != want {
		t.Errorf("got %+v, want %+v", *p, want)
	}
	p, fs = newProgram()
	if err := Parse(fs, []string{"-version"}, "PROGRAM"); err != nil || !p.version || p.number != 8 {
		t.Errorf("-version: got %+v, %v; want version true and number 8", *p, err)
	}
}

// An error names the flag or the variable, its value and the reason.
func TestInvalidValues(t *testing.T) {
	for args, wants := range map[string][]string{
		"-number x":      {"-number", `"x"`, "is not an integer"},
		"-number 1.5":    {"-number", `"1.5"`, "is not an integer"},
		"-number 0":      {"-number", `"0"`, "is not between 1 and 100"},
		"-number 101":    {"-number", `"101"`, "is not between 1 and 100"},
		"-number":        {"-number", "needs an argument"},
		"-wait 5":        {"-wait", `"5"`, "such as 500ms"},
		"-wait -1s":      {"-wait", `"-1s"`, "is not between 0s and 1h0m0s"},
		"-wait 61m":      {"-wait", `"61m"`, "is not between"},
		"-kind c":        {"-kind", `"c"`, "is not one of a, b"},
		"-kind A":        {"-kind", `"A"`, "is not one of a, b"},
		"-size 0":        {"-size", `"0"`, "is not between 1 and 1GiB"},
		"-size 2GiB":     {"-size", `"2GiB"`, "is not between 1 and 1GiB"},
		"-loud=x":        {"-loud", `"x"`},
		"-no-such-flag":  {"-no-such-flag"},
		"-loud argument": {`"argument"`, "only flags"},
		"-- argument":    {`"argument"`, "only flags"},
	} {
		_, fs := newProgram()
		err := Parse(fs, strings.Fields(args), "PROGRAM")
		if err == nil {
			t.Errorf("%s: got no error, want one", args)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %q, want it to contain %s", args, err, want)
			}
		}
	}
	for name, value := range map[string]string{"PROGRAM_NUMBER": "many", "PROGRAM_LONG_NAME": "", "PROGRAM_LOUD": "very"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			_, fs := newProgram()
			err := Parse(fs, nil, "PROGRAM")
			if value == "" { // the same as an unset variable
				if err != nil {
					t.Errorf("empty variable: got error %v, want none", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
				t.Errorf("got error %v, want it to contain %s and %s", err, name, value)
			}
		})
	}
}

// The value of a flag that is not Boolean is the flag's own to name, in quotes or without.
func TestWrongVariableOfAListFlag(t *testing.T) {
	t.Setenv("PROGRAM_ADDRESS", "here")
	_, fs := newProgram()
	fs.Func("address", "`address`", func(text string) error { return fmt.Errorf("address %s has no port", text) })
	err := Parse(fs, nil, "PROGRAM")
	if err == nil || !strings.HasSuffix(err.Error(), "address here has no port") {
		t.Errorf("%v", err)
	}
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "",
		"-number 9 -loud":            "",
		"a":                          "a",
		"a -number 9 -loud":          "a",
		"-number 9 a -loud":          "a",
		"-number 9 -loud a":          "a",
		"a -number 9 b -loud c":      "a b c",
		"-number 9 -loud -- a -x":    "a -x",
		"-number 9 -loud a -- -x -y": "a -x -y",
		"-number 9 -loud - a":        "- a",
	} {
		p, fs := newProgram()
		others, err := Arguments(fs, strings.Fields(args))
		if err != nil || strings.Join(others, " ") != want || strings.Contains(args, "-number") && (p.number != 9 || !p.loud) {
			t.Errorf("%q: got arguments %q, error %v, flags %+v; want arguments %q", args, others, err, *p, want)
		}
	}
	for _, args := range []string{"a -no-such-flag", "a -number x", "a b -number"} {
		_, fs := newProgram()
		if others, err := Arguments(fs, strings.Fields(args)); err == nil {
			t.Errorf("%q: got arguments %q, want an error", args, others)
		}
	}
	_, fs := newProgram()
	if _, err := Arguments(fs, []string{"a", "-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: got error %v, want %v", err, flag.ErrHelp)
	}
	// A flag set by Arguments overrides its variable in a later Parse.
	t.Setenv("PROGRAM_NUMBER", "8")
	t.Setenv("PROGRAM_WAIT", "5s")
	p, fs := newProgram()
	if _, err := Arguments(fs, []string{"a", "-number", "9"}); err != nil {
		t.Fatal(err)
	}
	if err := Parse(fs, nil, "PROGRAM"); err != nil || p.number != 9 || p.wait != 5*time.Second {
		t.Errorf("got %+v, %v; want number 9 and wait 5s", *p, err)
	}
}

// Every flag is explained with its unit, variable and default; -version has no variable.
func TestExplain(t *testing.T) {
	var b bytes.Buffer
	_, fs := newProgram()
	Explain(&b, fs, "PROGRAM")
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"-kind what PROGRAM_KIND", "what it is (default a)",
		"-long-name text PROGRAM_LONG_NAME", "text, if any (default none)",
		"-loud PROGRAM_LOUD", "be loud (default false)",
		"-number count PROGRAM_NUMBER", "count of things (default 7)",
		"-size bytes PROGRAM_SIZE", "bytes (default 8KiB)",
		"-version", "print version, commit and Go version",
		"-wait time PROGRAM_WAIT", "time to wait (default 1s)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// writerFunc is a function that implements io.Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Answer writes the help or the version to stdout and errors to stderr, and returns the exit
// status.
func TestAnswer(t *testing.T) {
	help := func(w io.Writer) { fmt.Fprint(w, "usage: program\n") }
	_, fs := newProgram()
	invalid := Parse(fs, []string{"-number", "x"}, "PROGRAM")
	asked := Parse(fs, []string{"-h"}, "PROGRAM")
	for _, x := range []struct {
		name           string
		err            error
		version        bool
		status         int
		answered       bool
		stdout, stderr string
	}{
		{"nothing", nil, false, 0, false, "", ""},
		{"help", asked, false, 0, true, "usage: program\n", ""},
		{"help, with version", asked, true, 0, true, "usage: program\n", ""},
		{"version", nil, true, 0, true, "program ", ""},
		{"invalid flag", invalid, false, ExitUsage, true, "", "program: invalid value"},
		{"invalid flag, with version", invalid, true, ExitUsage, true, "", "Run program -h for help."},
	} {
		var stdout, stderr bytes.Buffer
		status, answered := Answer("program", x.err, x.version, help, &stdout, &stderr)
		if status != x.status || answered != x.answered || !strings.HasPrefix(stdout.String(), x.stdout) || !strings.Contains(stderr.String(), x.stderr) {
			t.Errorf("%s: got %d, %v, stdout %q, stderr %q; want %d, %v, %q, %q", x.name, status, answered, &stdout, &stderr,
				x.status, x.answered, x.stdout, x.stderr)
		}
		if (x.stdout == "") != (stdout.Len() == 0) || (x.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%s: got stdout %q, stderr %q; want output to only one of them", x.name, &stdout, &stderr)
		}
	}
	full := writerFunc(func([]byte) (int, error) { return 0, errors.New("no space left") })
	for _, x := range []struct {
		err     error
		version bool
	}{{asked, false}, {nil, true}} {
		var stderr bytes.Buffer
		if status, answered := Answer("program", x.err, x.version, help, full, &stderr); status != 1 || !answered || stderr.String() != "program: no space left\n" {
			t.Errorf("stdout is full: got %d, %v, %q; want status 1 and the error", status, answered, &stderr)
		}
	}
}

func TestBuild(t *testing.T) {
	defer func(commit string) { buildCommit = commit }(buildCommit)
	for commit, want := range map[string][2]string{
		"0123456789":       {versionOf(release, "0123456789", false), "0123456789"},
		"0123456789-dirty": {versionOf(release, "0123456789", true), "0123456789"},
	} {
		buildCommit = commit
		if number, commit := Build(); number != want[0] || commit != want[1] || BuildVersion() != number {
			t.Errorf("got %q, %q; want %q", number, commit, want)
		}
	}
	buildCommit = ""
	if number, commit := Build(); !strings.HasPrefix(number, release) || commit == "" {
		t.Errorf("got %q, %q; want the version of the source tree, and a commit or unknown", number, commit)
	}
}

func TestVersionOf(t *testing.T) {
	for _, c := range []struct {
		release, commit string
		dirty           bool
		want            string
	}{
		{"1.2.0-dev", "0123456789abcdef", false, "1.2.0-dev+g0123456"},
		{"1.2.0-dev", "0123456789abcdef", true, "1.2.0-dev+g0123456.dirty"},
		{"1.2.0-dev", "", false, "1.2.0-dev"}, // an archive of the source tree
		{"1.2.0", "0123456789abcdef", false, "1.2.0"},
		{"1.2.0", "0123456789abcdef", true, "1.2.0+dirty"},
		{"1.2.0-rc.1", "", false, "1.2.0-rc.1"},
	} {
		if got := versionOf(c.release, c.commit, c.dirty); got != c.want {
			t.Errorf("release %s, commit %q, dirty %t: got %s, want %s", c.release, c.commit, c.dirty, got, c.want)
		}
	}
}

// The version of the source tree is the newest one in CHANGELOG.md, or a later one in development.
func TestReleaseIsInChangelog(t *testing.T) {
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^## \[([0-9][^]]*)\]`).FindSubmatch(changelog)
	if heading == nil {
		t.Fatal("CHANGELOG.md has no release")
	}
	newest := string(heading[1])
	unreleased := bytes.Contains(changelog, []byte("\n## [Unreleased]\n"))
	next, developing := strings.CutSuffix(release, "-dev")
	switch {
	case !developing && (release != newest || unreleased):
		t.Errorf("this is %s, but the newest release in CHANGELOG.md is %s, Unreleased %t", release, newest, unreleased)
	case developing && slices.Compare(numbers(t, next), numbers(t, newest)) <= 0:
		t.Errorf("this is %s, but %s is in CHANGELOG.md already", release, newest)
	}
}

// numbers returns the numbers of a version such as 1.2.3.
func numbers(t *testing.T, version string) (all []int) {
	t.Helper()
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{"a": {"a"}, "a,b": {"a", "b"}, " a , b\t": {"a", "b"}, "a b,c": {"a b", "c"}} {
		if got, err := Split(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", ",", "a,", ",a", "a,,b", "a, ,b"} {
		if got, err := Split(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestBetween(t *testing.T) {
	for x, good := range map[int]bool{1: false, 2: true, 3: true, 4: true, 5: false} {
		if err := Between(x, 2, 4); (err == nil) != good || err != nil && err.Error() != "is not between 2 and 4" {
			t.Errorf("%d: got error %v, want none only from 2 to 4", x, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"1": 1, "1000B": 1000, "8KiB": 8 << 10, "3 MiB": 3 << 20, "2GiB": 2 << 30,
	} {
		got, err := Size(0, 1<<40)(text)
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "-1", "1.5MiB", "1KB", "1 mib", "9223372036854775807KiB", "8589934592GiB"} {
		if got, err := Size(0, 1<<62)(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
	for size, want := range map[ByteSize]string{0: "0", 1000: "1000", 8 << 10: "8KiB", 256 << 20: "256MiB", 1<<30 + 1: "1073741825"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %q, want %q", int64(size), got, want)
		}
	}
}

// FuzzSize checks that a parsed size is within its limits, and that its String is parsed as the
// same size.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"1", "8KiB", "3 MiB", "2GiB", "-1", "9223372036854775807KiB", "1B"} {
		f.Add(text)
	}
	const least, most = 1, ByteSize(1) << 50
	f.Fuzz(func(t *testing.T, text string) {
		size, err := Size(least, most)(text)
		if err != nil {
			return
		}
		if size < least || size > most {
			t.Fatalf("%q: got %d, want %d to %d", text, int64(size), least, int64(most))
		}
		if again, err := Size(least, most)(size.String()); err != nil || again != size {
			t.Fatalf("%d is formatted as %q, which is parsed as %d, %v", int64(size), size, int64(again), err)
		}
	})
}
