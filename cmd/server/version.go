package main

import (
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

type versionInfo struct{ number, commit string }

func version() versionInfo {
	v := versionInfo{buildVersion, buildCommit}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.number == "" {
		v.number = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v.commit == "" {
			v.commit = s.Value
		}
	}
	if v.commit == "" {
		v.commit = "unknown"
	}
	return v
}

func versionLine() string {
	v := version()
	return fmt.Sprintf("wsecho %s (commit %s, %s, %s/%s)", v.number, v.commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
