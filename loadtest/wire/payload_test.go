package wire

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Every message can be read back from the masked bytes that are sent, for every base, number of
// messages sent together, and number of bytes that the kernel takes at a time.
func TestPayloadSetHoldsItsMessages(t *testing.T) {
	for _, mix := range [][]Portion{
		{{0, 1}}, {{1, 1}}, {{128, 1}}, {{1024, 1}}, {{70_000, 1}}, {{longestPiece, 1}}, {{longestPiece + 1, 1}}, {{1 << 20, 1}}, {{1_500_001, 1}},
		{{128, 90}, {65536, 10}}, {{0, 1}, {300_000, 1}},
	} {
		for _, inFlight := range []int{1, 3, 16, 500} {
			set := NewPayloadSet(mix, Binary, inFlight)
			for base := range uint64(len(set.messages)) {
				wantMessages(t, set, base, min(uint64(inFlight), 20), math.MaxInt)
			}
			wantMessages(t, set, 1, min(uint64(inFlight), 5), 7_919)
		}
	}
}

// wantMessages checks count messages that a connection with the given base sends, if the kernel
// takes at most chunk bytes at a time.
func wantMessages(t *testing.T, set *PayloadSet, base, count uint64, chunk int) {
	t.Helper()
	var sent bytes.Buffer
	written, offset := uint64(0), int32(0)
	for written < count {
		p, messages := set.Run(base, written, count-written, int(offset))
		n, _ := sent.Write(p[:min(len(p), chunk)])
		written, offset = set.Advance(base, written, offset, n, len(p), messages)
	}
	for n := range count {
		want := set.Message(base, n)
		h, err := ws.ReadHeader(&sent)
		if err != nil || !h.Masked || !h.Fin || h.OpCode != want.op || h.Length != int64(want.size) {
			t.Fatalf("message %d of base %d: got header %+v, %v", n, base, h, err)
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(&sent, payload); err != nil {
			t.Fatal(err)
		}
		if h.Length >= 4 && bytes.Equal(payload, want.whole()) {
			t.Fatalf("message %d of base %d is not masked", n, base)
		}
		ws.Cipher(payload, h.Mask, 0)
		if !bytes.Equal(payload, want.whole()) {
			t.Fatalf("message %d of base %d has a wrong payload", n, base)
		}
	}
	if sent.Len() > 0 {
		t.Fatalf("%d bytes follow %d messages of base %d, want 0", sent.Len(), count, base)
	}
}

// Replied verifies all complete replies together, and none of them if a byte is wrong.
func TestRepliedVerifiesCompleteReplies(t *testing.T) {
	for _, mix := range [][]Portion{{{0, 1}}, {{1, 1}}, {{128, 1}}, {{70_000, 1}}, {{5, 1}, {128, 5}, {300, 1}}} {
		set := NewPayloadSet(mix, Text, 16)
		for base := range uint64(len(set.messages)) {
			const arrived = 5
			var replies bytes.Buffer
			var ends []int
			for n := range uint64(arrived) {
				m := set.Message(base, 3+n)
				ws.WriteFrame(&replies, ws.NewTextFrame(m.whole()))
				ends = append(ends, replies.Len())
			}
			p := replies.Bytes()
			for n, end := range ends {
				for _, cut := range []int{end, min(len(p), end+1), ends[min(n+1, arrived-1)] - 1} {
					whole := uint64(0)
					for whole < arrived && ends[whole] <= cut {
						whole++
					}
					for _, most := range []uint64{1, 3, arrived} {
						want := min(whole, most, uint64(len(set.messages)+set.overlap)-set.place(base+3))
						size, messages := set.Replied(p[:cut], base, 3, most)
						if messages != want || want > 0 && size != ends[want-1] {
							t.Fatalf("%d bytes of replies that end at %v: got %d messages in %d bytes of at most %d, want %d messages", cut, ends, messages, size, most, want)
						}
					}
				}
			}
			right, _ := set.Replied(p, base, 3, 3)
			for _, at := range []int{0, 1, ends[0], right / 2, right - 1} {
				p[at] ^= 4
				if size, messages := set.Replied(p, base, 3, 3); messages > 0 && at < right {
					t.Fatalf("byte %d is wrong, but %d replies in %d bytes were verified", at, messages, size)
				}
				p[at] ^= 4
			}
		}
	}
}

// whole returns the complete payload.
func (m *Message) whole() []byte {
	p := make([]byte, 0, m.size)
	for len(p) < m.size {
		p = append(p, m.from(len(p))...)
	}
	return p
}

// The stored part of a long message is not a multiple of 8 bytes long, and no part of the message
// equals the part at the distance of a usual buffer size.
func TestLongMessagesDoNotRepeatAtBufferSizes(t *testing.T) {
	for _, size := range []int{longestPiece + 1, 192 << 10, 256 << 10, 1 << 20, 10_000_000, LongestPayload} {
		m := NewPayloadSet([]Portion{{size, 1}}, Binary, 1).messages[0]
		if len(m.payload)%8 != 4 || len(m.payload) > longestPiece+8 {
			t.Errorf("of %d bytes, %d are stored; want at most %d and a multiple of 4 but not of 8", size, len(m.payload), longestPiece+8)
		}
		for distance := 1 << 10; distance <= size/2; distance *= 2 {
			if bytes.Equal(m.from(0)[:100], m.from(distance)[:100]) {
				t.Errorf("a message of %d bytes repeats at a distance of %d bytes", size, distance)
			}
		}
	}
}

func TestPayloadSetKeepsProportions(t *testing.T) {
	set := NewPayloadSet([]Portion{{128, 90}, {65536, 10}, {7, 100}}, Binary, 1)
	count := map[int]int{}
	for _, m := range set.messages {
		count[m.size]++
	}
	if count[128] != 9*count[65536] || count[7] != 10*count[65536] || count[65536] == 0 {
		t.Errorf("got messages by size %v, want 9 times as many of 128 bytes and 10 times as many of 7 bytes as of 65536", count)
	}
}

func TestConsecutiveMessagesDiffer(t *testing.T) {
	set := NewPayloadSet([]Portion{{16, 1}}, Text, 1)
	for n := range uint64(len(set.messages)) {
		if bytes.Equal(set.Message(0, n).payload, set.Message(0, n+1).payload) {
			t.Fatalf("messages %d and %d are equal", n, n+1)
		}
	}
}

func TestTextPayloadsAreValidUTF8(t *testing.T) {
	for _, kind := range []PayloadKind{Text, Unicode} {
		for _, size := range []int{0, 1, 2, 3, 5, 100, 10_000, 333_333, 1 << 20} {
			for _, m := range NewPayloadSet([]Portion{{size, 1}}, kind, 1).messages {
				payload := m.whole()
				if len(payload) != size || !utf8.Valid(payload) || m.op != ws.OpText {
					t.Fatalf("%s of %d bytes: got %d bytes, %.200q, want valid UTF-8", kind, size, len(payload), payload)
				}
				if kind == Text && utf8.RuneCount(payload) != size {
					t.Fatalf("kind text is not ASCII: %.200q", payload)
				}
			}
		}
	}
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
