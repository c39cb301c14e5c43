package echo

import (
	"encoding/binary"
	"math/bits"
)

// A vector is what unmaskVectors takes at a time, in bytes.
const vector = 32

// unmask makes p plain (RFC 6455, section 5.3); the lowest byte of mask is for p[0]. That it
// says whether all of p is ASCII spares a second look at most texts.
//
// It is not ws.Cipher because that says nothing of what it has seen, and for short payloads takes
// longer to begin than to do.
func unmask(p []byte, mask uint32) (ascii bool) {
	m := uint64(mask)<<32 | uint64(mask)
	ascii = true
	if len(p) >= 2*vector && haveVectors {
		n := len(p) &^ (vector - 1)
		ascii = unmaskVectors(&p[0], n, m)
		p = p[n:]
	}
	const high = 0x8080808080808080
	var all uint64
	for len(p) >= 32 {
		q := (*[32]byte)(p)
		a := binary.LittleEndian.Uint64(q[0:]) ^ m
		b := binary.LittleEndian.Uint64(q[8:]) ^ m
		c := binary.LittleEndian.Uint64(q[16:]) ^ m
		d := binary.LittleEndian.Uint64(q[24:]) ^ m
		binary.LittleEndian.PutUint64(q[0:], a)
		binary.LittleEndian.PutUint64(q[8:], b)
		binary.LittleEndian.PutUint64(q[16:], c)
		binary.LittleEndian.PutUint64(q[24:], d)
		all |= a | b | c | d
		p = p[32:]
	}
	for len(p) >= 8 {
		a := binary.LittleEndian.Uint64(p) ^ m
		binary.LittleEndian.PutUint64(p, a)
		all |= a
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(m >> (8 * i))
		all |= uint64(p[i])
	}
	return ascii && all&high == 0
}

// rotated is the mask as it meets the payload n bytes further on.
func rotated(mask uint32, n int) uint32 { return bits.RotateLeft32(mask, -8*(n%maskSize)) }
