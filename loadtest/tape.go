package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A message that is sent, and wanted back. A long one repeats its beginning, over and over: so that all of it
// stays in the processor's nearer caches, both what is sent and what replies are compared with, and the generator does not take
// longer over it than the server.
type message struct {
	op      ws.OpCode
	size    int    // of the payload
	payload []byte // or what is repeated
	frame   extent // of its masked frame in tape.frames; of a long one as far as payload goes
	reply   extent // of its reply in tape.replies, likewise
}

// extent is from where to where something lies.
type extent struct{ start, end int }

// repeats says whether the message is longer than what is held of it.
func (m *message) repeats() bool { return m.size > len(m.payload) }

// from is the payload from a place on, as much as lies in one piece.
func (m *message) from(at int) []byte {
	if !m.repeats() {
		return m.payload[at:]
	}
	p := m.payload[at%len(m.payload):]
	return p[:min(len(p), m.size-at)]
}

// headSize is that of the header, mask and all.
func (m *message) headSize() int { return m.frame.end - m.frame.start - len(m.payload) }

// frameSize is that of the whole frame.
func (m *message) frameSize() int { return m.headSize() + m.size }

// A tape is what every connection sends, over and over: some messages, made and masked once, whose frames lie
// one behind the other so that several can be sent at once. Connections begin at
// different places of it, and neighbours on it differ, so that a reply that is late,
// doubled or somebody else's is not taken for the right one (unless the payload is too
// short to differ).
type tape struct {
	messages []message
	frames   []byte // of the messages, and of the first ones again
	replies  []byte // to them, as a server sends them that sends each in one frame
	long     bool   // some messages repeat: each is sent by itself
	mask     uint64 // one less than how many messages there are, if that is a power of two, as it is of one short size
	overlap  int    // how many messages follow again, so that a run across the end is one piece
}

// portion is a part of a mix: so many messages in sum(weights) have this size.
type portion struct {
	size   int
	weight int
}

// payloadKind is what messages are made of.
type payloadKind string

const (
	binaryPayload  payloadKind = "binary"  // random bytes
	textPayload    payloadKind = "text"    // ASCII
	unicodePayload payloadKind = "unicode" // characters of one to four bytes
)

const (
	// A tape of one short size has so many messages as fit this, which leaves the
	// nearer caches to others.
	tapeBytes  = 32 << 10
	tapeFewest = 2
	tapeMost   = 64

	// Runs longer than this are cut at the tape's end, where it makes no difference any more.
	overlapBytes = 64 << 10

	// longestPiece is about the most that is held of a message.
	longestPiece = 128 << 10
)

// newTape makes the messages of a mix. The same arguments make the same tape.
func newTape(mix []portion, kind payloadKind, inFlight int) *tape {
	random := rand.New(rand.NewPCG(6455, 2011))
	t := &tape{}
	op := ws.OpText
	if kind == binaryPayload {
		op = ws.OpBinary
	}
	var frames, replies bytes.Buffer
	for _, size := range sequence(mix, random) {
		m := message{op: op, size: size, payload: newHeld(size, kind, random)}
		m.frame.start, m.reply.start = frames.Len(), replies.Len()
		writeMasked(&frames, &m, random)
		ws.WriteHeader(&replies, ws.Header{Fin: true, OpCode: op, Length: int64(size)}) // a bytes.Buffer takes everything
		replies.Write(m.payload)
		m.frame.end, m.reply.end = frames.Len(), replies.Len()
		t.messages = append(t.messages, m)
		t.long = t.long || m.repeats()
	}
	if n := len(t.messages); n&(n-1) == 0 {
		t.mask = uint64(n - 1)
	}
	t.frames, t.replies = frames.Bytes(), replies.Bytes()
	for t.overlap < min(inFlight, len(t.messages)) && t.messages[t.overlap].frame.end <= overlapBytes {
		t.overlap++
	}
	if t.overlap > 0 {
		frame, reply := t.ends(uint64(t.overlap - 1))
		t.frames = append(t.frames, t.frames[:frame]...)
		t.replies = append(t.replies, t.replies[:reply]...)
	}
	for i := range t.messages { // so that what is compared lies in the caches once
		m := &t.messages[i]
		m.payload = t.replies[m.reply.end-len(m.payload) : m.reply.end]
	}
	return t
}

// sequence is the sizes of a tape's messages, in the proportions of the mix and
// in no order.
func sequence(mix []portion, random *rand.Rand) (sizes []int) {
	divisor, total := 0, 0
	for _, p := range mix {
		divisor = gcd(divisor, p.weight)
	}
	for _, p := range mix {
		for range p.weight / divisor {
			sizes = append(sizes, p.size)
			total += p.size
		}
	}
	once := len(sizes)
	for len(sizes) < tapeFewest || len(sizes)+once <= tapeMost && total/once*(len(sizes)+once) <= tapeBytes {
		sizes = append(sizes, sizes[:once]...)
	}
	random.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	return sizes
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// newHeld makes a message's payload, or what is repeated of it: so that text does not
// end within a character.
func newHeld(size int, kind payloadKind, random *rand.Rand) []byte {
	if size <= longestPiece {
		return newPayload(size, kind, random)
	}
	whole := pieceSize(size)
	last := size % whole
	return append(newPayload(last, kind, random), newPayload(whole-last, kind, random)...)
}

// pieceSize is how much of a long message is repeated: about as much each time, so that none is sent in driblets.
// It is a multiple of the mask's four bytes, but not of eight: so it is of no size that a
// buffer has, and a server that loses, doubles or exchanges parts of a message does not do so by multiples of it.
func pieceSize(size int) int {
	times := (size + longestPiece - 1) / longestPiece
	return (size/times+7)&^7 + 4
}

func newPayload(size int, kind payloadKind, random *rand.Rand) []byte {
	p := make([]byte, size)
	switch kind {
	case binaryPayload:
		for rest := p; len(rest) > 0; {
			eight := binary.LittleEndian.AppendUint64(nil, random.Uint64())
			rest = rest[copy(rest, eight):]
		}
	case textPayload:
		fillASCII(p, random)
	case unicodePayload:
		rest := p
		for len(rest) >= utf8.UTFMax {
			first := [...]rune{' ', 'à', 'あ', '😀'}[random.IntN(4)]
			rest = rest[utf8.EncodeRune(rest, first+rune(random.IntN(64))):]
		}
		fillASCII(rest, random)
	}
	return p
}

func fillASCII(p []byte, random *rand.Rand) {
	for i := range p {
		p[i] = ' ' + byte(random.IntN('~'-' '+1))
	}
}

// writeMasked writes the frame of a message as a client sends it, as far as its payload is held.
func writeMasked(b *bytes.Buffer, m *message, random *rand.Rand) {
	h := ws.Header{Fin: true, OpCode: m.op, Masked: true, Length: int64(m.size)}
	for i := range h.Mask {
		h.Mask[i] = byte(1 + random.IntN(255)) // 0 would leave bytes as they are
	}
	ws.WriteHeader(b, h) // a bytes.Buffer takes everything
	masked := slices.Clone(m.payload)
	ws.Cipher(masked, h.Mask, 0)
	b.Write(masked)
}

// message is number n of those that a connection sends that began at base.
func (t *tape) message(base, n uint64) *message {
	return &t.messages[t.place(base+n)]
}

// place is that of number n of an endless tape. To divide takes longer than all else that is done with a place.
func (t *tape) place(n uint64) uint64 {
	if t.mask != 0 {
		return n & t.mask
	}
	return n % uint64(len(t.messages))
}

// run is the frames of messages from number n on, as many as lie in one piece, at the most most; of the
// first without the first offset bytes. It says how many messages they are, or 0 if it is a piece of one.
func (t *tape) run(base, n, most uint64, offset int) (p []byte, messages uint64) {
	if t.long {
		return t.piece(t.message(base, n), offset), 0
	}
	first, beyond := t.span(base+n, most)
	end, _ := t.ends(beyond - 1)
	return t.frames[t.messages[first].frame.start+offset : end], beyond - first
}

// span is the places of messages from number n of an endless tape on, as many as lie in one piece, at the most most.
func (t *tape) span(n, most uint64) (first, beyond uint64) {
	first = t.place(n)
	return first, min(first+most, uint64(len(t.messages)+t.overlap))
}

// ends is where the frame at a place ends, and its reply; also of the first ones where they follow again.
func (t *tape) ends(place uint64) (frame, reply int) {
	if over := place - uint64(len(t.messages)); place >= uint64(len(t.messages)) {
		place, frame, reply = over, t.last().frame.end, t.last().reply.end
	}
	m := &t.messages[place]
	return frame + m.frame.end, reply + m.reply.end
}

// replied is how many whole replies p begins with to messages from number n on, at the most most, if each is one frame and all
// are right; and how many bytes they are. Otherwise it is none, and a reply has to look closer.
func (t *tape) replied(p []byte, base, n, most uint64) (size int, messages uint64) {
	if t.long {
		return 0, 0
	}
	first, beyond := t.span(base+n, most)
	start := t.messages[first].reply.start
	for place := first; place < beyond; place++ {
		_, end := t.ends(place)
		if end-start > len(p) {
			break
		}
		size = end - start
		messages++
	}
	if !bytes.Equal(p[:size], t.replies[start:start+size]) {
		return 0, 0
	}
	return size, messages
}

// piece is a message's frame from offset on, as much as lies in one piece.
func (t *tape) piece(m *message, offset int) []byte {
	frame := t.frames[m.frame.start:m.frame.end]
	if offset < len(frame) {
		return frame[offset:]
	}
	p := frame[m.headSize()+(offset-m.headSize())%len(m.payload):]
	return p[:min(len(p), m.frameSize()-offset)]
}

// last is the one behind which the first ones come again.
func (t *tape) last() *message { return &t.messages[len(t.messages)-1] }
