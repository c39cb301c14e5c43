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

// Set by the Makefile with -ldflags -X. Other builds use the version and commit that the go command
// records in the binary.
var (
	buildVersion string
	buildCommit  string
)

// BuildVersion returns the version of the program, or "unknown".
func BuildVersion() string {
	number, _ := Build()
	return number
}

// Build returns the version of the program and the commit that it was built from. Each is "unknown"
// if it was not recorded.
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

// ExitUsage is the exit status for an invalid command line.
const ExitUsage = 2

// Answer handles a command line that asks for the help or the version, or that is invalid; err is
// the error of Parse. It writes the answer, and reports whether it has done so, with the exit
// status: 0, ExitUsage, or 1 if the answer could not be written. If answered is false, the program
// should run.
func Answer(program string, err error, version bool, help func(io.Writer), stdout, stderr io.Writer) (status int, answered bool) {
	var answer bytes.Buffer
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(&answer)
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\nRun %s -h for help.\n", program, err, program)
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
