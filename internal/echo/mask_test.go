package echo

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"
)

func TestUnmaskUsesTheRightMaskByte(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 3))
	mask := [maskSize]byte{0x37, 0xfa, 0x21, 0x3d} // section 5.7
	const key = 0x3d21fa37
	const around = 40    // bytes before and after, which unmask must not change
	for n := range 320 { // several rounds of every loop, with and without vectors
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(random.IntN(utf8.RuneSelf))
		}
		for at := -1; at < n; at++ { // index of the byte that is not ASCII; -1: none
			if at >= 0 {
				plain[at] |= 0x80
			}
			off, before := (n+at)&3, random.IntN(around)
			got := bytes.Repeat([]byte("x"), before+n+around)
			for i := range plain {
				got[before+i] = plain[i] ^ mask[(i+off)%maskSize]
			}
			ascii := unmask(got[before:][:n], rotated(key, off))
			want := slices.Concat(bytes.Repeat([]byte("x"), before), plain, bytes.Repeat([]byte("x"), around))
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %d bytes into the payload: got\n%x, want\n%x", n, off, got, want)
			}
			if ascii != (at < 0) {
				t.Fatalf("%d bytes, not ASCII at %d: got ASCII %t, want %t", n, at, ascii, at < 0)
			}
			if at >= 0 {
				plain[at] &^= 0x80
			}
		}
	}
}

// TestUnmaskWithoutVectors tests the code for other processors.
func TestUnmaskWithoutVectors(t *testing.T) {
	if !hasVectors {
		t.Skip("this processor has no vectors that unmask uses: the other test covers this code")
	}
	hasVectors = false
	defer func() { hasVectors = true }()
	TestUnmaskUsesTheRightMaskByte(t)
}
