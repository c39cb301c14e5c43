package echo

import (
	"encoding/binary"
	"unicode/utf8"
)

// utf8Check follows a text message from one run of its bytes to the next. It
// holds the beginning of a character whose rest has not arrived.
type utf8Check struct {
	begun [utf8.UTFMax - 1]byte
	n     uint8
}

// next says whether the text can still become valid UTF-8 after p. An
// impossible byte is noticed when it is there, not when its character would
// have been complete: utf8.FullRune holds for whatever no further byte can
// mend.
func (c *utf8Check) next(p []byte) bool {
	if c.n == 0 {
		p = p[asciiPrefix(p):]
	}
	for c.n > 0 && len(p) > 0 {
		var char [utf8.UTFMax]byte
		n := copy(char[:], c.begun[:c.n])
		char[n] = p[0]
		p = p[1:]
		if !utf8.FullRune(char[:n+1]) {
			c.begun[n] = char[n]
			c.n++
			continue
		}
		if r, size := utf8.DecodeRune(char[:n+1]); r == utf8.RuneError && size <= 1 {
			return false
		}
		c.n = 0
	}
	whole := len(p) - unfinished(p)
	if !utf8.Valid(p[:whole]) {
		return false
	}
	if whole < len(p) {
		c.n = uint8(copy(c.begun[:], p[whole:]))
	}
	return true
}

// whole says whether the text may end here.
func (c *utf8Check) whole() bool { return c.n == 0 }

// unfinished is the length of the character at the end of p that further
// bytes could complete; 0 if p ends with a whole or an impossible one.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// asciiPrefix is a length of p, at most len(p), up to which every byte is
// ASCII. Most text is all of it. utf8.Valid, too, looks for it, but in steps
// of thirty-two bytes and ends with single ones, which takes a short text twice as long.
func asciiPrefix(p []byte) int {
	const high = 0x8080808080808080
	n := 0
	for ; len(p)-n >= 64; n += 64 {
		q := (*[64]byte)(p[n:])
		if (binary.LittleEndian.Uint64(q[:])|binary.LittleEndian.Uint64(q[8:])|
			binary.LittleEndian.Uint64(q[16:])|binary.LittleEndian.Uint64(q[24:])|
			binary.LittleEndian.Uint64(q[32:])|binary.LittleEndian.Uint64(q[40:])|
			binary.LittleEndian.Uint64(q[48:])|binary.LittleEndian.Uint64(q[56:]))&high != 0 {
			break
		}
	}
	for len(p)-n >= 8 && binary.LittleEndian.Uint64(p[n:])&high == 0 {
		n += 8
	}
	return n
}
