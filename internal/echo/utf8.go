package echo

import "encoding/binary"

// utf8Check checks a text message that arrives in parts. It is the state of an automaton that reads
// UTF-8 (RFC 3629, section 4) byte by byte. It therefore finds an invalid byte as soon as the byte
// arrives, not when its character would have been complete.
//
// A step looks up one word by the byte and shifts it right by the state. The word contains the next
// state for every state, so states are multiples of stateBits. For text in many scripts the
// automaton takes a third of the time of utf8.Valid.
type utf8Check uint8

const stateBits = 6

// The states of the automaton, by the input that it expects next.
const (
	utf8Start   utf8Check = iota * stateBits // a character
	utf8One                                  // one continuation byte, 80 to BF
	utf8Two                                  // two continuation bytes
	utf8Three                                // three continuation bytes
	utf8AfterE0                              // two, the first from A0 (else it is overlong)
	utf8AfterED                              // two, the first up to 9F (else it is a surrogate)
	utf8AfterF0                              // three, the first from 90 (else it is overlong)
	utf8AfterF4                              // three, the first up to 8F (U+10FFFF is the last)
	utf8Invalid                              // none: the text is not UTF-8
	utf8States  = iota
)

// utf8Steps holds a word for every byte. The next state after state s is word>>s&63.
var utf8Steps = func() (steps [256]uint64) {
	for b := range steps {
		for i := range utf8States {
			state := utf8Check(i * stateBits)
			steps[b] |= uint64(state.after(byte(b))) << state
		}
	}
	return steps
}()

// after returns the state after byte b. utf8Steps is computed with it.
func (c utf8Check) after(b byte) utf8Check {
	between := func(low, high byte, next utf8Check) utf8Check {
		if low <= b && b <= high {
			return next
		}
		return utf8Invalid
	}
	switch c {
	case utf8One:
		return between(0x80, 0xbf, utf8Start)
	case utf8Two:
		return between(0x80, 0xbf, utf8One)
	case utf8Three:
		return between(0x80, 0xbf, utf8Two)
	case utf8AfterE0:
		return between(0xa0, 0xbf, utf8One)
	case utf8AfterED:
		return between(0x80, 0x9f, utf8One)
	case utf8AfterF0:
		return between(0x90, 0xbf, utf8Two)
	case utf8AfterF4:
		return between(0x80, 0x8f, utf8Two)
	case utf8Invalid:
		return utf8Invalid
	}
	switch {
	case b < 0x80:
		return utf8Start
	case b < 0xc2: // a continuation byte, or the start of an overlong form
		return utf8Invalid
	case b < 0xe0:
		return utf8One
	case b == 0xe0:
		return utf8AfterE0
	case b == 0xed:
		return utf8AfterED
	case b < 0xf0:
		return utf8Two
	case b == 0xf0:
		return utf8AfterF0
	case b < 0xf4:
		return utf8Three
	case b == 0xf4:
		return utf8AfterF4
	}
	return utf8Invalid
}

// next reads the next bytes of the text, and reports whether it is valid UTF-8 so far.
func (c *utf8Check) next(p []byte) bool {
	const stretch = 64 // bytes to read before the next search for ASCII
	state := uint64(*c)
	for len(p) > 0 && state != uint64(utf8Invalid) {
		if state == uint64(utf8Start) {
			p = p[asciiPrefix(p):]
		}
		n := min(len(p), stretch)
		for _, b := range p[:n] {
			state = utf8Steps[b] >> (state & 63)
		}
		state &= 1<<stateBits - 1
		p = p[n:]
	}
	*c = utf8Check(state)
	return *c != utf8Invalid
}

// whole reports whether the text may end here, which is not inside a character.
func (c utf8Check) whole() bool { return c == utf8Start }

// asciiPrefix returns the length of a prefix of p that is ASCII. The prefix is not always the
// longest one: it ends at a block of 64 or 8 bytes.
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
