package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// repeated is a message of which only a part is held.
var repeated = &message{op: ws.OpText, size: 11, payload: []byte("abcd")}

var hello = &message{op: ws.OpText, size: 5, payload: []byte("hello")}

// long is a message whose header has a length of two bytes.
var long = &message{op: ws.OpBinary, size: 300, payload: newPayload(300, binaryPayload, random())}

// What a server sends while a message is awaited, and what that comes to.
var conversations = []struct {
	name    string
	awaited *message
	sent    string
	steps   []step  // in order
	want    failure // at the end; noFault
}{
	{"whole", hello, "\x81\x05hello", []step{verified}, noFault},
	{"empty", &message{op: ws.OpBinary}, "\x82\x00", []step{verified}, noFault},
	{"long", long, "\x82\x7e\x01\x2c" + string(long.payload), []step{verified}, noFault},
	{"repeated", repeated, "\x81\x0babcdabcdabc", []step{verified}, noFault},
	{"repeated, in fragments", repeated, "\x01\x05abcda\x80\x06bcdabc", []step{verified}, noFault},
	{"in fragments", hello, "\x01\x02he\x00\x00\x80\x03llo", []step{verified}, noFault},
	{"in fragments, the last empty", hello, "\x01\x05hello\x80\x00", []step{verified}, noFault},
	{"ping between fragments", hello, "\x01\x02he\x89\x02hi\x80\x03llo", []step{pinged, verified}, noFault},
	{"pong before", hello, "\x8a\x00\x81\x05hello", []step{ponged, verified}, noFault},
	{"close", hello, "\x88\x02\x03\xe8", []step{toldClose}, noFault},
	{"close in the middle", hello, "\x01\x02he\x88\x05\x03\xe9bye", []step{toldClose}, noFault},
	{"greeting", anyMessage, "\x81\x02hi", []step{verified}, noFault},
	{"greeting, binary, in fragments", anyMessage, "\x02\x01h\x89\x00\x80\x01i", []step{pinged, verified}, noFault},
	{"greetings", anyMessage, "\x81\x00\x82\x01i", []step{verified, verified}, noFault},
	{"greeting that is too long", anyMessage, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x01", nil, unasked},
	{"greeting against the rules", anyMessage, "\xc1\x02hi", nil, violated},
	{"ping, with nothing awaited", nil, "\x89\x00", []step{pinged}, noFault},

	{"repeated, last byte wrong", repeated, "\x81\x0babcdabcdabd", nil, mismatched},
	{"repeated too often", repeated, "\x81\x0fabcdabcdabcdabc", nil, mismatched},
	{"first byte wrong", hello, "\x81\x05Hello", nil, mismatched},
	{"last byte wrong", hello, "\x81\x05hellO", nil, mismatched},
	{"wrong in a fragment", hello, "\x01\x02he\x80\x03lLo", nil, mismatched},
	{"too short", hello, "\x81\x04hell", nil, mismatched},
	{"too long", hello, "\x81\x06hello!", nil, mismatched},
	{"too long in fragments", hello, "\x01\x05hello\x80\x01!", nil, mismatched},
	{"too short in fragments", hello, "\x01\x02he\x80\x02ll", nil, mismatched},
	{"another opcode", hello, "\x82\x05hello", nil, mismatched},
	{"nothing awaited", nil, "\x81\x05hello", nil, unasked},
	{"masked", hello, "\x81\x85\x00\x00\x00\x00hello", nil, violated},
	{"reserved bit", hello, "\xc1\x05hello", nil, violated},
	{"reserved opcode", hello, "\x83\x05hello", nil, violated},
	{"reserved control opcode", hello, "\x8b\x00", nil, violated},
	{"continuation of nothing", hello, "\x80\x05hello", nil, violated},
	{"message in a message", hello, "\x01\x02he\x81\x03llo", nil, violated},
	{"fragmented ping", hello, "\x09\x00", nil, violated},
	{"long ping", hello, "\x89\x7e\x00\x7e", nil, violated},
	{"length in too many bytes", hello, "\x81\x7e\x00\x05hello", nil, violated},
	{"length in far too many bytes", hello, "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello", nil, violated},
	{"length of 64 bits", hello, "\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x05hello", nil, violated},
}

const noFault failure = 255

// take takes all of what is sent, in pieces.
func take(r *reply, sent []byte, awaited *message, piece int) (steps []step, err error) {
	for p := range slices.Chunk(sent, piece) {
		for len(p) > 0 {
			n, s, err := r.take(p, awaited)
			if s != more {
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

func TestReplies(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1000, 1, 2, 3, 7} {
				steps, err := take(&reply{}, []byte(c.sent), c.awaited, piece)
				got := noFault
				if f := (*fault)(nil); errors.As(err, &f) {
					got = f.kind
				}
				if got != c.want || c.want == noFault && !slices.Equal(steps, c.steps) {
					t.Errorf("in pieces of %d: %v, %v; want %v, kind %d", piece, steps, err, c.steps, c.want)
				}
			}
		})
	}
}

// A message ends where it ends: the one behind it is read as the next.
func TestRepliesBehindOneAnother(t *testing.T) {
	sent := []byte("\x81\x05hello\x01\x02he\x80\x03llo\x89\x01x\x81\x05hello")
	for piece := 1; piece <= len(sent); piece++ {
		steps, err := take(&reply{}, sent, hello, piece)
		if want := []step{verified, verified, pinged, verified}; err != nil || !slices.Equal(steps, want) {
			t.Errorf("in pieces of %d: %v, %v", piece, steps, err)
		}
	}
}

// Whatever single bit of a reply is turned, it is not taken for the message.
func TestNoBitMayDiffer(t *testing.T) {
	sent := []byte("\x82\x7e\x01\x2c" + string(long.payload))
	for bit := range len(sent) * 8 {
		sent[bit/8] ^= 1 << (bit % 8)
		if steps, err := take(&reply{}, sent, long, len(sent)); err == nil && len(steps) > 0 {
			t.Errorf("with bit %d turned: %v", bit, steps)
		}
		sent[bit/8] ^= 1 << (bit % 8)
	}
}

// FuzzReply splits the same bytes in two ways, which must come to the same.
func FuzzReply(f *testing.F) {
	for _, c := range conversations {
		f.Add([]byte(c.sent), uint8(1))
	}
	f.Fuzz(func(t *testing.T, sent []byte, piece uint8) {
		for _, awaited := range []*message{hello, anyMessage} {
			whole, wholeErr := take(&reply{}, sent, awaited, len(sent)+1)
			parts, partsErr := take(&reply{}, sent, awaited, int(piece)+1)
			if wholeErr == nil && partsErr == nil && !slices.Equal(whole, parts) || (wholeErr == nil) != (partsErr == nil) {
				t.Errorf("%v, %v whole, and %v, %v in pieces of %d", whole, wholeErr, parts, partsErr, piece+1)
			}
		}
	})
}

const goodResponse = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n"

func TestResponses(t *testing.T) {
	good := strings.Replace(goodResponse, "KEY", acceptKey(key(7)), 1)
	for _, c := range []struct{ old, new, wants string }{
		{"", "", ""},
		{"101 Switching Protocols", "101", ""},
		{"Upgrade: websocket", "UPGRADE:WebSocket", ""},
		{"Connection: Upgrade", "Connection: keep-alive, upgrade", ""},
		{"101 Switching Protocols", "503 Service Unavailable", "503 Service Unavailable"},
		{"101 Switching Protocols", "1010 x", "1010"},
		{"HTTP/1.1", "HTTP/1.0", "HTTP/1.0"},
		{"Upgrade: websocket\r\n", "", "Upgrade: websocket"},
		{"Upgrade: websocket", "Upgrade: h2c", "Upgrade: websocket"},
		{"Connection: Upgrade", "Connection: close", "Connection: Upgrade"},
		{acceptKey(key(7)), acceptKey(key(8)), "Sec-WebSocket-Accept"},
		{"\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "permessage-deflate"},
		{"\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", "chat"},
	} {
		err := checkResponse([]byte(strings.Replace(good, c.old, c.new, 1)), 7)
		if (err == nil) != (c.wants == "") || err != nil && !strings.Contains(err.Error(), c.wants) {
			t.Errorf("with %q for %q: %v", c.new, c.old, err)
		}
	}
}

// The example of RFC 6455, section 1.3.
func TestAcceptKey(t *testing.T) {
	if got := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(got)
	}
}
