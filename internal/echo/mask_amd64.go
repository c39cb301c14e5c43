package echo

import "golang.org/x/sys/cpu"

// vectorSize is the size in bytes of the vectors that unmaskVectors processes.
const vectorSize = 32

// vectorMin is the length in bytes from which unmaskVectors is faster than the code in Go.
const vectorMin = 64

// hasVectors reports whether this processor has AVX2.
var hasVectors = cpu.X86.HasAVX2

// unmaskVectors does what unmask does, with AVX2 instructions, for the n bytes at p. The mask is
// repeated twice, and n must be a positive multiple of vectorSize. Its speed is limited only by the
// bandwidth of the caches.
//
//go:noescape
func unmaskVectors(p *byte, n int, mask uint64) (ascii bool)
