package echo

import (
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// texts holds valid and invalid texts, most of them from Markus Kuhn's stress test for UTF-8
// decoders. The tests in message_test.go use them, too.
var texts = []struct {
	name    string
	text    string
	invalid int  // index of the first invalid byte, which no bytes after it can correct; -1: none
	whole   bool // the text does not end inside a character
}{
	{"no text", "", -1, true},
	{"ASCII", "Hello, world: \x00\x01\x7f", -1, true},
	{"Greek", "κόσμε", -1, true},
	{"many scripts", "Hello-µ@ßöäüàá-UTF-8!! 日本語 עברית 𐍈 👩‍👩‍👧", -1, true},
	{"long ASCII", strings.Repeat("a", 1000), -1, true},
	{"characters across blocks of 32", strings.Repeat("a", 31) + "é" + strings.Repeat("b", 62) + "€" + strings.Repeat("c", 29) + "𐍈", -1, true},
	{"an invalid byte after long ASCII", strings.Repeat("a", 100) + "\xff" + strings.Repeat("a", 100), 100, true},
	{"a byte order mark (RFC 3629, 6)", "\ufeffx", -1, true},

	// The first and the last character of each length.
	{"U+0000", "\x00", -1, true},
	{"U+0080", "\u0080", -1, true},
	{"U+0800", "\u0800", -1, true},
	{"U+10000", "\U00010000", -1, true},
	{"U+007F", "\x7f", -1, true},
	{"U+07FF", "\u07ff", -1, true},
	{"U+FFFF", "\uffff", -1, true},
	{"U+10FFFF", "\U0010ffff", -1, true},

	// Characters next to invalid ranges, and invalid code points.
	{"U+D7FF", "\ud7ff", -1, true},
	{"U+E000", "\ue000", -1, true},
	{"U+FFFD, which is not an error", "\ufffd", -1, true},
	{"noncharacters", "\ufffe\uffff\ufdd0\ufdef\U0001fffe\U0001ffff\U000ffffe\U000fffff\U0010fffe", -1, true},
	{"U+110000", "\xf4\x90\x80\x80", 1, true},
	{"U+13FFFF", "\xf4\xbf\xbf\xbf", 1, true},
	{"U+140000", "\xf5\x80\x80\x80", 0, true},
	{"U+1FFFFF", "\xf7\xbf\xbf\xbf", 0, true},
	{"five bytes, the first", "\xf8\x88\x80\x80\x80", 0, true},
	{"five bytes, the last", "\xfb\xbf\xbf\xbf\xbf", 0, true},
	{"six bytes, the first", "\xfc\x84\x80\x80\x80\x80", 0, true},
	{"six bytes, the last", "\xfd\xbf\xbf\xbf\xbf\xbf", 0, true},
	{"FE", "\xfe", 0, true},
	{"FF", "\xff", 0, true},
	{"FE FE FF FF", "κ\xfe\xfe\xff\xff", 2, true},

	// Continuation bytes without a first byte.
	{"80", "\x80", 0, true},
	{"BF", "\xbf", 0, true},
	{"80 BF", "\x80\xbf", 0, true},
	{"80 after a whole character", "κ\x80", 2, true},
	{"eight of them", "x\x80\xbf\x80\xbf\x80\xbf\x80\xbf", 1, true},

	// First bytes without enough continuation bytes.
	{"C2 and a space", "\xc2 ", 1, true},
	{"DF and a space", "\xdf ", 1, true},
	{"E0 and a space", "\xe0 ", 1, true},
	{"EF and a space", "\xef ", 1, true},
	{"F0 and a space", "\xf0 ", 1, true},
	{"F4 and a space", "\xf4 ", 1, true},
	{"C2 and another", "\xc2\xc2\x80", 1, true},
	{"two bytes of three and a space", "\xe2\x82 ", 2, true},
	{"three bytes of four and a space", "\xf0\x90\x8d ", 3, true},
	{"three bytes of four and a whole character", "\xf0\x90\x8d\u20ac", 3, true},

	// Texts that end inside a character.
	{"one byte of two", "κ\xce", -1, false},
	{"one byte of three", "\xe2", -1, false},
	{"two bytes of three", "\xe2\x82", -1, false},
	{"one byte of four", "\xf0", -1, false},
	{"two bytes of four", "\xf0\x90", -1, false},
	{"three bytes of four", strings.Repeat("a", 64) + "\xf0\x90\x8d", -1, false},
	{"the last two bytes that F4 admits", "\xf4\x8f", -1, false},

	// Overlong forms.
	{"an overlong slash of two bytes", "\xc0\xaf", 0, true},
	{"an overlong slash of three bytes", "\xe0\x80\xaf", 1, true},
	{"an overlong slash of four bytes", "\xf0\x80\x80\xaf", 1, true},
	{"an overlong slash of five bytes", "\xf8\x80\x80\x80\xaf", 0, true},
	{"an overlong slash of six bytes", "\xfc\x80\x80\x80\x80\xaf", 0, true},
	{"an overlong U+007F", "\xc1\xbf", 0, true},
	{"an overlong U+07FF", "\xe0\x9f\xbf", 1, true},
	{"an overlong U+FFFF", "\xf0\x8f\xbf\xbf", 1, true},
	{"an overlong NUL", "\xc0\x80", 0, true},
	{"an overlong NUL of three bytes", "\xe0\x80\x80", 1, true},
	{"an overlong NUL of four bytes", "\xf0\x80\x80\x80", 1, true},

	// Surrogates, single and in pairs.
	{"U+D800", "\xed\xa0\x80", 1, true},
	{"U+DB7F", "\xed\xad\xbf", 1, true},
	{"U+DBFF", "\xed\xaf\xbf", 1, true},
	{"U+DC00", "\xed\xb0\x80", 1, true},
	{"U+DFFF", "\xed\xbf\xbf", 1, true},
	{"U+10000 as a pair", "\xed\xa0\x80\xed\xb0\x80", 1, true},
	{"U+10FFFF as a pair", "\xed\xaf\xbf\xed\xbf\xbf", 1, true},
	{"Greek and a surrogate", "κόσμε\xed\xa0\x80edited", 11, true},
}

// The table above must agree with package unicode/utf8.
func TestTextsAgreeWithTheStandardLibrary(t *testing.T) {
	for _, c := range texts {
		if valid := c.invalid < 0 && c.whole; valid != utf8.ValidString(c.text) {
			t.Errorf("%s: valid is %t in the table, want the result of unicode/utf8", c.name, valid)
		}
	}
}

// beginnings returns a map from every incomplete character, including the empty string, to the
// bytes that may follow it. It encodes all code points with unicode/utf8, and so does not depend on
// the rules of UTF-8 in this package.
var beginnings = sync.OnceValue(func() map[string]*[256]bool {
	next := map[string]*[256]bool{}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		var b [utf8.UTFMax]byte
		char := b[:utf8.EncodeRune(b[:], r)]
		for i, c := range char {
			may := next[string(char[:i])]
			if may == nil {
				may = new([256]bool)
				next[string(char[:i])] = may
			}
			may[c] = true
		}
	}
	return next
})

// The test tries every byte after every incomplete character, about four million pairs. utf8Check
// must reject the byte if and only if no character continues with it.
func TestUTF8CheckRejectsExactlyTheInvalidBytes(t *testing.T) {
	next := beginnings()
	for begun, may := range next {
		for b := range 256 {
			var whole, bytewise utf8Check
			char := begun + string([]byte{byte(b)})
			if got := whole.next([]byte(char)); got != may[b] {
				t.Fatalf("after % x, %02x is valid: got %t, want %t", begun, b, got, may[b])
			}
			if !bytewise.next([]byte(begun)) {
				t.Fatalf("% x is the beginning of a character: got invalid, want valid", begun)
			}
			if got := bytewise.next([]byte(char[len(begun):])); got != may[b] {
				t.Fatalf("after % x in an earlier call, %02x is valid: got %t, want %t", begun, b, got, may[b])
			}
			if !may[b] {
				continue
			}
			if _, more := next[char]; whole.whole() == more || bytewise.whole() == more {
				t.Fatalf("% x is a whole character: got %t and %t, want %t", char, whole.whole(), bytewise.whole(), !more)
			}
		}
	}
}

// utf8Check skips ASCII in blocks, and must find a character at every offset in a block.
func TestUTF8CheckAtEveryOffset(t *testing.T) {
	for before := range 70 {
		for _, char := range []string{"é", "€", "𐍈", "\x80", "\xff", "\xed\xa0\x80", "\xe2\x82"} {
			text := strings.Repeat("a", before) + char + strings.Repeat("b", 40)
			for cut := range len(text) + 1 {
				var c utf8Check
				ok := c.next([]byte(text[:cut])) && c.next([]byte(text[cut:])) && c.whole()
				if ok != utf8.ValidString(text) {
					t.Fatalf("%q cut at %d: got valid %t, want %t", text, cut, ok, !ok)
				}
			}
		}
	}
}

// A block of ASCII inside a character is invalid, and must not be skipped.
func TestUTF8CheckDoesNotSkipASCIIInsideACharacter(t *testing.T) {
	for blocks := 1; blocks < 4; blocks++ {
		var c utf8Check
		if !c.next([]byte("\xe2\x82")) || c.next([]byte(strings.Repeat("a", 32*blocks))) {
			t.Fatalf("%d blocks of ASCII inside a character: got valid, want invalid", blocks)
		}
	}
}
