package wire

import (
	"errors"
	"slices"
	"testing"

	"github.com/gobwas/ws"

	"wsecho/loadtest/stats"
)

// repeated is a message that repeats the stored part of its payload.
var repeated = &Message{op: ws.OpText, size: 11, payload: []byte("abcd")}

var hello = &Message{op: ws.OpText, size: 5, payload: []byte("hello")}

// long is a message whose header has a 16-bit length.
var long = &Message{op: ws.OpBinary, size: 300, payload: newPayload(300, Binary, random())}

// conversations hold the bytes that a server sends while a message is expected, and the steps or
// the fault that the parser has to return.
var conversations = []struct {
	name     string
	expected *Message
	sent     string
	steps    []Step        // in order, if there is no fault
	want     stats.Failure // kind of the fault, or noFault
}{
	{"whole", hello, "\x81\x05hello", []Step{Verified}, noFault},
	{"empty", &Message{op: ws.OpBinary}, "\x82\x00", []Step{Verified}, noFault},
	{"long", long, "\x82\x7e\x01\x2c" + string(long.payload), []Step{Verified}, noFault},
	{"repeated", repeated, "\x81\x0babcdabcdabc", []Step{Verified}, noFault},
	{"repeated, in fragments", repeated, "\x01\x05abcda\x80\x06bcdabc", []Step{Verified}, noFault},
	{"in fragments", hello, "\x01\x02he\x00\x00\x80\x03llo", []Step{Verified}, noFault},
	{"in fragments, the last empty", hello, "\x01\x05hello\x80\x00", []Step{Verified}, noFault},
	{"ping between fragments", hello, "\x01\x02he\x89\x02hi\x80\x03llo", []Step{Pinged, Verified}, noFault},
	{"pong before", hello, "\x8a\x00\x81\x05hello", []Step{Ponged, Verified}, noFault},
	{"close", hello, "\x88\x02\x03\xe8", []Step{GotClose}, noFault},
	{"close in the middle", hello, "\x01\x02he\x88\x05\x03\xe9bye", []Step{GotClose}, noFault},
	{"greeting", AnyMessage, "\x81\x02hi", []Step{Verified}, noFault},
	{"greeting, binary, in fragments", AnyMessage, "\x02\x01h\x89\x00\x80\x01i", []Step{Pinged, Verified}, noFault},
	{"greetings", AnyMessage, "\x81\x00\x82\x01i", []Step{Verified, Verified}, noFault},
	{"greeting that is too long", AnyMessage, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x01", nil, stats.Unasked},
	{"greeting against the rules", AnyMessage, "\xc1\x02hi", nil, stats.Violated},
	{"ping, with nothing expected", nil, "\x89\x00", []Step{Pinged}, noFault},

	{"repeated, last byte wrong", repeated, "\x81\x0babcdabcdabd", nil, stats.Mismatched},
	{"repeated too often", repeated, "\x81\x0fabcdabcdabcdabc", nil, stats.Mismatched},
	{"first byte wrong", hello, "\x81\x05Hello", nil, stats.Mismatched},
	{"last byte wrong", hello, "\x81\x05hellO", nil, stats.Mismatched},
	{"wrong in a fragment", hello, "\x01\x02he\x80\x03lLo", nil, stats.Mismatched},
	{"too short", hello, "\x81\x04hell", nil, stats.Mismatched},
	{"too long", hello, "\x81\x06hello!", nil, stats.Mismatched},
	{"too long in fragments", hello, "\x01\x05hello\x80\x01!", nil, stats.Mismatched},
	{"too short in fragments", hello, "\x01\x02he\x80\x02ll", nil, stats.Mismatched},
	{"another opcode", hello, "\x82\x05hello", nil, stats.Mismatched},
	{"nothing expected", nil, "\x81\x05hello", nil, stats.Unasked},
	{"masked", hello, "\x81\x85\x00\x00\x00\x00hello", nil, stats.Violated},
	{"reserved bit", hello, "\xc1\x05hello", nil, stats.Violated},
	{"reserved opcode", hello, "\x83\x05hello", nil, stats.Violated},
	{"reserved control opcode", hello, "\x8b\x00", nil, stats.Violated},
	{"continuation of nothing", hello, "\x80\x05hello", nil, stats.Violated},
	{"message in a message", hello, "\x01\x02he\x81\x03llo", nil, stats.Violated},
	{"fragmented ping", hello, "\x09\x00", nil, stats.Violated},
	{"long ping", hello, "\x89\x7e\x00\x7e", nil, stats.Violated},
	{"length in too many bytes", hello, "\x81\x7e\x00\x05hello", nil, stats.Violated},
	{"length in far too many bytes", hello, "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello", nil, stats.Violated},
	{"length of 64 bits", hello, "\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x05hello", nil, stats.Violated},
}

const noFault stats.Failure = 255

// take passes the sent bytes to the parser in pieces of the given length.
func take(r *Parser, sent []byte, expected *Message, piece int) (steps []Step, err error) {
	for p := range slices.Chunk(sent, piece) {
		for len(p) > 0 {
			n, s, err := r.Take(p, expected)
			if s != More {
				steps = append(steps, s)
			}
			if err != nil {
				return steps, err
			}
			p = p[n:]
		}
	}
	return steps, nil
}

func TestParserOnConversations(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1000, 1, 2, 3, 7} {
				steps, err := take(&Parser{}, []byte(c.sent), c.expected, piece)
				got := noFault
				if f := (*stats.Fault)(nil); errors.As(err, &f) {
					got = f.Kind
				}
				if got != c.want || c.want == noFault && !slices.Equal(steps, c.steps) {
					t.Errorf("in pieces of %d: got %v, %v; want %v, fault kind %d", piece, steps, err, c.steps, c.want)
				}
			}
		})
	}
}

// Bytes after the end of a message begin the next message.
func TestConsecutiveReplies(t *testing.T) {
	sent := []byte("\x81\x05hello\x01\x02he\x80\x03llo\x89\x01x\x81\x05hello")
	for piece := 1; piece <= len(sent); piece++ {
		steps, err := take(&Parser{}, sent, hello, piece)
		if want := []Step{Verified, Verified, Pinged, Verified}; err != nil || !slices.Equal(steps, want) {
			t.Errorf("in pieces of %d: got %v, %v; want %v", piece, steps, err, want)
		}
	}
}

// A reply with any single bit inverted is not verified.
func TestEveryInvertedBitIsDetected(t *testing.T) {
	sent := []byte("\x82\x7e\x01\x2c" + string(long.payload))
	for bit := range len(sent) * 8 {
		sent[bit/8] ^= 1 << (bit % 8)
		if steps, err := take(&Parser{}, sent, long, len(sent)); err == nil && len(steps) > 0 {
			t.Errorf("with bit %d inverted: got steps %v and no error", bit, steps)
		}
		sent[bit/8] ^= 1 << (bit % 8)
	}
}

// FuzzReply checks that the result does not depend on how the bytes are split.
func FuzzReply(f *testing.F) {
	for _, c := range conversations {
		f.Add([]byte(c.sent), uint8(1))
	}
	f.Fuzz(func(t *testing.T, sent []byte, piece uint8) {
		for _, expected := range []*Message{hello, AnyMessage} {
			whole, wholeErr := take(&Parser{}, sent, expected, len(sent)+1)
			parts, partsErr := take(&Parser{}, sent, expected, int(piece)+1)
			if wholeErr == nil && partsErr == nil && !slices.Equal(whole, parts) || (wholeErr == nil) != (partsErr == nil) {
				t.Errorf("got %v, %v in one piece, and %v, %v in pieces of %d", whole, wholeErr, parts, partsErr, piece+1)
			}
		}
	})
}
