//go:build !amd64 && !arm64

package echo

const (
	vectorSize = 1
	vectorMin  = 1
)

var hasVectors = false

func unmaskVectors(*byte, int, uint64) bool {
	panic("echo: this architecture has no unmaskVectors")
}
