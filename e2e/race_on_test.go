//go:build race

package e2e

// raceEnabled: a test binary that looks for races builds a server that does, too.
const raceEnabled = true
