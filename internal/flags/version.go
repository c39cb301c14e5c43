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
	"strings"
)

// release is the version of this source tree. Between two releases it is the next one with "-dev".
// CONTRIBUTING.md describes how to make a release; a test compares it with CHANGELOG.md.
const release = "0.2.0-dev"

// buildCommit is the commit that the program is built from, with "-dirty" if files were changed. The
// Makefile sets it with -ldflags -X. It is empty in other builds, for which the go command may have
// recorded the commit.
var buildCommit string

// BuildVersion returns the version of the program.
func BuildVersion() string {
	number, _ := Build()
	return number
}

// Build returns the version of the program (Semantic Versioning 2.0.0), and the commit that it was
// built from, or "unknown". The version of a commit between two releases contains it, as in
// 0.2.0-dev+g0123abc, and "dirty" if files were changed.
func Build() (number, commit string) {
	commit, dirty := strings.CutSuffix(buildCommit, "-dirty")
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.modified":
				dirty = s.Value == "true"
			}
		}
	}
	return versionOf(release, commit, dirty), cmp.Or(commit, "unknown")
}

// versionOf returns the version of a build of the source tree with the given commit, which is empty
// if it is not known.
func versionOf(release, commit string, dirty bool) string {
	var build []string
	if strings.HasSuffix(release, "-dev") && commit != "" {
		build = append(build, "g"+commit[:min(7, len(commit))])
	}
	if dirty {
		build = append(build, "dirty")
	}
	if build == nil {
		return release
	}
	return release + "+" + strings.Join(build, ".")
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
