package echo

import "encoding/binary"

// utf8Check follows a text message from one run of its bytes to the next: it is the state of an
// automaton that reads UTF-8 (RFC 3629, section 4) a byte at a time. So an impossible byte is
// noticed when it is there, not when its character would have been complete.
//
// A step is one look-up, in a word that has the next state for every state that there is, and
// one shift by the state, which is for that reason a multiple of stateBits. It takes a third of the time
// that utf8.Valid takes for text of many scripts.
type utf8Check uint8

const stateBits = 6

// What the automaton waits for.
const (
	utf8Start  utf8Check = iota * stateBits // a character
	utf8One                                 // one more byte of it, 80 to BF
	utf8Two                                 // two
	utf8Three                               // three
	utf8After0                              // two, after E0: the first from A0, or the character were too long for what it is
	utf8AfterD                              // two, after ED: the first up to 9F, or it were half of a surrogate pair
	utf8AfterF                              // three, after F0: the first from 90
	utf8After4                              // three, after F4: the first up to 8F, for U+10FFFF is the last
	utf8Never                               // nothing: this is not UTF-8
	utf8States = iota
)

// utf8Steps has for every byte the next state s>>state&63 for every state.
var utf8Steps = func() (steps [256]uint64) {
	for b := range steps {
		for i := range utf8States {
			state := utf8Check(i * stateBits)
			steps[b] |= uint64(state.after(byte(b))) << state
		}
	}
	return steps
}()

// after is the state after byte b: what utf8Steps is made from.
func (c utf8Check) after(b byte) utf8Check {
	between := func(low, high byte, next utf8Check) utf8Check {
		if low <= b && b <= high {
			return next
		}
		return utf8Never
	}
	switch c {
	case utf8One:
		return between(0x80, 0xbf, utf8Start)
	case utf8Two:
		return between(0x80, 0xbf, utf8One)
	case utf8Three:
		return between(0x80, 0xbf, utf8Two)
	case utf8After0:
		return between(0xa0, 0xbf, utf8One)
	case utf8AfterD:
		return between(0x80, 0x9f, utf8One)
	case utf8AfterF:
		return between(0x90, 0xbf, utf8Two)
	case utf8After4:
		return between(0x80, 0x8f, utf8Two)
	case utf8Never:
		return utf8Never
	}
	switch {
	case b < 0x80:
		return utf8Start
	case b < 0xc2: // continues nothing, or begins what a single byte says
		return utf8Never
	case b < 0xe0:
		return utf8One
	case b == 0xe0:
		return utf8After0
	case b == 0xed:
		return utf8AfterD
	case b < 0xf0:
		return utf8Two
	case b == 0xf0:
		return utf8AfterF
	case b < 0xf4:
		return utf8Three
	case b == 0xf4:
		return utf8After4
	}
	return utf8Never
}

// next says whether the text can still become valid UTF-8 after p.
func (c *utf8Check) next(p []byte) bool {
	const stretch = 64 // bytes between two looks whether ASCII has begun
	state := uint64(*c)
	for len(p) > 0 && state != uint64(utf8Never) {
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
	return *c != utf8Never
}

// whole says whether the text may end here.
func (c utf8Check) whole() bool { return c == utf8Start }

// asciiPrefix is a length of p, at most len(p), up to which every byte is
// ASCII. Most text is all of it.
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
