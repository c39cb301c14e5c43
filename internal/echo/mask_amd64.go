package echo

import "golang.org/x/sys/cpu"

var hasAVX2 = cpu.X86.HasAVX2

// unmaskAVX2 does what unmask does, with AVX2 instructions, for the n bytes at p. The mask is
// repeated twice, and n must be a positive multiple of vectorSize. Its speed is limited only by the
// bandwidth of the caches.
//
//go:noescape
func unmaskAVX2(p *byte, n int, mask uint64) (ascii bool)
