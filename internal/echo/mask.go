package echo

import (
	"encoding/binary"
	"math/bits"
)

// unmask unmasks p (RFC 6455, section 5.3). The lowest byte of mask is for p[0]. It reports whether
// all of p is ASCII, so most text need not be read again to be checked.
//
// It replaces ws.Cipher, which does not detect ASCII, and whose set-up takes longer than the
// unmasking of a short payload.
func unmask(p []byte, mask uint32) (ascii bool) {
	m := uint64(mask)<<32 | uint64(mask)
	ascii = true
	if len(p) >= vectorMin && hasVectors {
		n := len(p) &^ (vectorSize - 1)
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

// rotated returns the mask for the payload that begins n bytes further on.
func rotated(mask uint32, n int) uint32 { return bits.RotateLeft32(mask, -8*(n%maskSize)) }
