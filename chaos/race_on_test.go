//go:build race

package chaos

// underRace reports whether the suite runs under the race detector. The server then does too, so
// its latency and memory are not checked.
const underRace = true
