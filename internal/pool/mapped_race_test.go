//go:build race

package pool

const mapped = false
