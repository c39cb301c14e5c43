package echo

// vectorSize is the size in bytes of the vectors that unmaskVectors processes.
const vectorSize = 16

// vectorMin is the length in bytes from which unmaskVectors is faster than the code in Go
// (docs/measurements.md).
const vectorMin = 256

// hasVectors is always true, since all arm64 processors have NEON. It is a variable for the test of
// the code in Go.
var hasVectors = true

// unmaskVectors does what unmask does, with NEON instructions, for the n bytes at p. The mask is
// repeated twice, and n must be a positive multiple of vectorSize.
//
//go:noescape
func unmaskVectors(p *byte, n int, mask uint64) (ascii bool)
