package echo

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"
)

func TestEveryByteIsUnmaskedWithItsOwn(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 3))
	mask := [maskSize]byte{0x37, 0xfa, 0x21, 0x3d} // section 5.7
	const key = 0x3d21fa37
	const around = 40 // bytes before and behind, which are somebody else's
	for n := range 10 * vector {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(random.IntN(utf8.RuneSelf))
		}
		for at := -1; at < n; at++ { // where it is not ASCII, if anywhere
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
				t.Fatalf("%d bytes, %d bytes into the payload: unmasked\n%x, wanted\n%x", n, off, got, want)
			}
			if ascii != (at < 0) {
				t.Fatalf("%d bytes, not ASCII at %d: said to be ASCII: %t", n, at, ascii)
			}
			if at >= 0 {
				plain[at] &^= 0x80
			}
		}
	}
}

// Without AVX2, and on other processors.
func TestUnmaskWithoutVectors(t *testing.T) {
	if !haveVectors {
		t.Skip("there are none, so that the other tests are of this")
	}
	haveVectors = false
	defer func() { haveVectors = true }()
	TestEveryByteIsUnmaskedWithItsOwn(t)
}
