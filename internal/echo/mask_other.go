//go:build !amd64

package echo

var hasAVX2 = false

func unmaskAVX2(*byte, int, uint64) bool { panic("echo: AVX2 exists on amd64 only") }
