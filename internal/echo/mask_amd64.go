package echo

import "golang.org/x/sys/cpu"

var haveVectors = cpu.X86.HasAVX2

// unmaskVectors is unmask for n bytes at p, a multiple of vector, with AVX2. It runs at the speed at which
// the caches give and take.
//
//go:noescape
func unmaskVectors(p *byte, n int, mask uint64) (ascii bool)
