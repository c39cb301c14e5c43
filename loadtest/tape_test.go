package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Every message can be read back from the tape, masked, whatever the place and
// the number of those that are sent together.
func TestTapeHoldsItsMessages(t *testing.T) {
	for _, mix := range [][]portion{
		{{0, 1}}, {{1, 1}}, {{128, 1}}, {{1024, 1}}, {{70_000, 1}}, {{1 << 20, 1}},
		{{128, 90}, {65536, 10}},
	} {
		for _, inFlight := range []int{1, 3, 16, 500} {
			tape := newTape(mix, binaryPayload, inFlight)
			for base := range uint64(len(tape.messages)) {
				wantMessages(t, tape, base, uint64(inFlight))
			}
		}
	}
}

// wantMessages reads as many messages as may be in flight from what is sent.
func wantMessages(t *testing.T, tape *tape, base, count uint64) {
	t.Helper()
	var sent bytes.Buffer
	var stretch []byte
	for n := range min(count, 20) {
		if len(stretch) == 0 {
			stretch = tape.run(base, n, count-n)
			sent.Write(stretch)
		}
		want := tape.message(base, n)
		stretch = stretch[want.end-want.start:]
		h, err := ws.ReadHeader(&sent)
		if err != nil || !h.Masked || !h.Fin || h.OpCode != want.op || h.Length != int64(len(want.payload)) {
			t.Fatalf("frame %d from %d: %+v, %v", n, base, h, err)
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(&sent, payload); err != nil {
			t.Fatal(err)
		}
		if h.Length >= 4 && bytes.Equal(payload, want.payload) {
			t.Fatalf("frame %d from %d is not masked", n, base)
		}
		ws.Cipher(payload, h.Mask, 0)
		if !bytes.Equal(payload, want.payload) {
			t.Fatalf("frame %d from %d has another payload", n, base)
		}
	}
}

func TestTapeKeepsProportions(t *testing.T) {
	tape := newTape([]portion{{128, 90}, {65536, 10}, {7, 100}}, binaryPayload, 1)
	count := map[int]int{}
	for _, m := range tape.messages {
		count[len(m.payload)]++
	}
	if count[128] != 9*count[65536] || count[7] != 10*count[65536] || count[65536] == 0 {
		t.Errorf("%v", count)
	}
}

func TestNeighboursDiffer(t *testing.T) {
	tape := newTape([]portion{{16, 1}}, textPayload, 1)
	for n := range uint64(len(tape.messages)) {
		if bytes.Equal(tape.message(0, n).payload, tape.message(0, n+1).payload) {
			t.Fatalf("messages %d and %d are the same", n, n+1)
		}
	}
}

func TestTextIsText(t *testing.T) {
	for _, kind := range []payloadKind{textPayload, unicodePayload} {
		for _, size := range []int{0, 1, 2, 3, 5, 100, 10_000} {
			for _, m := range newTape([]portion{{size, 1}}, kind, 1).messages {
				if len(m.payload) != size || !utf8.Valid(m.payload) || m.op != ws.OpText {
					t.Fatalf("%s of %d bytes: %d bytes, %q", kind, size, len(m.payload), m.payload)
				}
				if kind == textPayload && utf8.RuneCount(m.payload) != size {
					t.Fatalf("text is more than ASCII: %q", m.payload)
				}
			}
		}
	}
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
