//go:build race

package chaos

// underRace is whether the suite runs under the race detector. Then the server
// does too: it is slow and large, and neither is measured.
const underRace = true
