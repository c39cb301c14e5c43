package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the Makefile with -ldflags -X. A build without it falls back on what
// the go command records.
var (
	buildVersion string
	buildCommit  string
)

func version() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		info = &debug.BuildInfo{}
	}
	return cmp.Or(buildVersion, info.Main.Version, "unknown")
}

func versionLine() string {
	return fmt.Sprintf("wsload %s (commit %s, %s, %s/%s)", version(), cmp.Or(buildCommit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
