package flags

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Set by the Makefile with -ldflags -X. A build without it falls back on what
// the go command records.
var (
	buildVersion string
	buildCommit  string
)

// BuildVersion is the version of the program.
func BuildVersion() string {
	number, _ := Build()
	return number
}

// Build is the version of the program, and the commit that it was built from.
func Build() (number, commit string) {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		info = &debug.BuildInfo{}
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return cmp.Or(buildVersion, info.Main.Version, "unknown"), cmp.Or(buildCommit, revision, "unknown")
}

// ExitUsage is the exit status for a flag that is wrong.
const ExitUsage = 2

// Answer answers a command line that asks for the help or the version, or that has a wrong flag:
// err is the error of Parse. It reports whether that was so, and the exit status, which is 1 if the
// answer could not be written.
func Answer(program string, err error, version bool, help func(io.Writer), stdout, stderr io.Writer) (status int, answered bool) {
	var answer bytes.Buffer
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(&answer)
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n%s -h explains the flags\n", program, err, program)
		return ExitUsage, true
	case version:
		number, commit := Build()
		fmt.Fprintf(&answer, "%s %s (commit %s, %s, %s/%s)\n", program, number, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	default:
		return 0, false
	}
	if _, err := stdout.Write(answer.Bytes()); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		return 1, true
	}
	return 0, true
}
