//go:build !amd64

package echo

var haveVectors = false

func unmaskVectors(*byte, int, uint64) bool { panic("echo: there are no vectors") }
