package echo

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

func TestEveryByteIsUnmaskedWithItsOwn(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 3))
	mask := [maskSize]byte{0x37, 0xfa, 0x21, 0x3d} // section 5.7
	const key = 0x3d21fa37
	for n := range 2*shortPayload + 40 {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(random.IntN(utf8.RuneSelf))
		}
		for at := -1; at < n; at = max(2*at, at+1) { // where it is not ASCII, if anywhere
			if at >= 0 {
				plain[at] |= 0x80
			}
			for off := range maskSize {
				masked := make([]byte, n+1)
				for i := range plain {
					masked[i] = plain[i] ^ mask[(i+off)%maskSize]
				}
				masked[n] = 'x'
				ascii := unmask(masked[:n], rotated(key, off))
				if !bytes.Equal(masked[:n], plain) || masked[n] != 'x' {
					t.Fatalf("%d bytes, %d bytes into the payload: unmasked %x, want %x and an untouched x", n, off, masked, plain)
				}
				if want := at < 0 && n <= shortPayload; ascii != want {
					t.Fatalf("%d bytes, not ASCII at %d: said to be ASCII: %t", n, at, ascii)
				}
			}
			if at >= 0 {
				plain[at] &^= 0x80
			}
		}
	}
}
