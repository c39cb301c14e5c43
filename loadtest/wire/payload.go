package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A Message is a message that is sent and whose echo is compared with it. A long message repeats
// its beginning, so that both the bytes to send and the bytes to compare stay in the CPU caches,
// and the generator takes no longer per message than the server.
type Message struct {
	op      ws.OpCode
	size    int    // length of the payload in bytes
	payload []byte // the payload, or the part that repeats
	frame   extent // the masked frame in PayloadSet.frames, without repetitions
	reply   extent // the reply in PayloadSet.replies, without repetitions
}

// An extent is a range of bytes.
type extent struct{ start, end int }

// Size returns the length of the payload in bytes.
func (m *Message) Size() int { return m.size }

// repeats reports whether the message is longer than its stored part.
func (m *Message) repeats() bool { return m.size > len(m.payload) }

// from returns the payload from an offset on, up to the end of the stored part.
func (m *Message) from(at int) []byte {
	if !m.repeats() {
		return m.payload[at:]
	}
	p := m.payload[at%len(m.payload):]
	return p[:min(len(p), m.size-at)]
}

// headSize returns the length of the frame's header with its mask.
func (m *Message) headSize() int { return m.frame.end - m.frame.start - len(m.payload) }

// frameSize returns the length of the whole frame.
func (m *Message) frameSize() int { return m.headSize() + m.size }

// A PayloadSet holds the messages that every connection sends in an endless cycle. They are masked
// once, and their frames are contiguous, so that several can be sent in one write. Each connection
// begins at a different message (its base), and consecutive messages differ. A late reply, a
// duplicate and another connection's reply are therefore mismatches, unless the payload is too
// short to differ. A PayloadSet does not change, so all workers share it.
type PayloadSet struct {
	messages []Message
	frames   []byte // of all messages, then again of the first ones (overlap)
	replies  []byte // the same messages, each echoed in one unmasked frame
	long     bool   // a message repeats its stored part, so each message is sent separately
	mask     uint64 // the number of messages minus 1 if it is a power of two; otherwise 0
	overlap  int    // number of messages stored again, so that runs across the end are contiguous
}

// A Portion is a part of a mix of sizes. Its share of the messages is Weight divided by the sum of
// all weights.
type Portion struct {
	Size   int // bytes
	Weight int
}

// A PayloadKind is the kind of bytes in messages.
type PayloadKind string

const (
	Binary  PayloadKind = "binary"  // random bytes
	Text    PayloadKind = "text"    // ASCII
	Unicode PayloadKind = "unicode" // characters of one to four bytes
)

const (
	// LongestPayload is the maximum length of a payload in bytes.
	LongestPayload = 64 << 20

	// setBytes limits the total payload of a set of short messages, so that it leaves room in the
	// CPU caches.
	setBytes  = 32 << 10
	setFewest = 2
	setMost   = 64

	// overlapBytes limits the overlap. Longer runs end at the end of the set; at that length the
	// additional system call is negligible.
	overlapBytes = 64 << 10

	// longestPiece is about the maximum length in bytes of the stored part of a message.
	longestPiece = 128 << 10
)

// NewPayloadSet returns the messages of a mix. The same arguments give the same set. Callers of Run
// must not ask for more than inFlight messages.
func NewPayloadSet(mix []Portion, kind PayloadKind, inFlight int) *PayloadSet {
	random := rand.New(rand.NewPCG(6455, 2011))
	s := &PayloadSet{}
	op := ws.OpText
	if kind == Binary {
		op = ws.OpBinary
	}
	var frames, replies bytes.Buffer
	for _, size := range sequence(mix, random) {
		m := Message{op: op, size: size, payload: newStored(size, kind, random)}
		m.frame.start, m.reply.start = frames.Len(), replies.Len()
		writeMasked(&frames, &m, random)
		ws.WriteHeader(&replies, ws.Header{Fin: true, OpCode: op, Length: int64(size)}) // cannot fail
		replies.Write(m.payload)
		m.frame.end, m.reply.end = frames.Len(), replies.Len()
		s.messages = append(s.messages, m)
		s.long = s.long || m.repeats()
	}
	if n := len(s.messages); n&(n-1) == 0 {
		s.mask = uint64(n - 1)
	}
	s.frames, s.replies = frames.Bytes(), replies.Bytes()
	for s.overlap < min(inFlight, len(s.messages)) && s.messages[s.overlap].frame.end <= overlapBytes {
		s.overlap++
	}
	if s.overlap > 0 {
		frame, reply := s.ends(uint64(s.overlap - 1))
		s.frames = append(s.frames, s.frames[:frame]...)
		s.replies = append(s.replies, s.replies[:reply]...)
	}
	for i := range s.messages { // share memory between payloads and replies
		m := &s.messages[i]
		m.payload = s.replies[m.reply.end-len(m.payload) : m.reply.end]
	}
	return s
}

// sequence returns the sizes of a set's messages in the proportions of the mix, shuffled.
func sequence(mix []Portion, random *rand.Rand) (sizes []int) {
	divisor, total := 0, 0
	for _, p := range mix {
		divisor = gcd(divisor, p.Weight)
	}
	for _, p := range mix {
		for range p.Weight / divisor {
			sizes = append(sizes, p.Size)
			total += p.Size
		}
	}
	once := len(sizes)
	for len(sizes) < setFewest || len(sizes)+once <= setMost && total/once*(len(sizes)+once) <= setBytes {
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

// newStored returns a message's payload, or the part of it that repeats. The part consists of two
// pieces, and the message ends at the end of one of them, so that text does not end within a
// character.
func newStored(size int, kind PayloadKind, random *rand.Rand) []byte {
	if size <= longestPiece {
		return newPayload(size, kind, random)
	}
	whole := pieceSize(size)
	last := size % whole
	return append(newPayload(last, kind, random), newPayload(whole-last, kind, random)...)
}

// pieceSize returns the length in bytes of the stored part of a long message. It divides the
// message into about equal parts, so that no small remainder is sent separately. It is a multiple
// of the mask's 4 bytes but not of 8, so it differs from every usual buffer size: if a server
// loses, duplicates or swaps buffers, the bytes do not match.
func pieceSize(size int) int {
	times := (size + longestPiece - 1) / longestPiece
	return (size/times+7)&^7 + 4
}

func newPayload(size int, kind PayloadKind, random *rand.Rand) []byte {
	p := make([]byte, size)
	switch kind {
	case Binary:
		for rest := p; len(rest) > 0; {
			eight := binary.LittleEndian.AppendUint64(nil, random.Uint64())
			rest = rest[copy(rest, eight):]
		}
	case Text:
		fillASCII(p, random)
	case Unicode:
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

// writeMasked writes the masked frame of a message, with the stored part of its payload.
func writeMasked(b *bytes.Buffer, m *Message, random *rand.Rand) {
	h := ws.Header{Fin: true, OpCode: m.op, Masked: true, Length: int64(m.size)}
	for i := range h.Mask {
		h.Mask[i] = byte(1 + random.IntN(255)) // 0 would leave bytes unmasked
	}
	ws.WriteHeader(b, h) // cannot fail
	masked := slices.Clone(m.payload)
	ws.Cipher(masked, h.Mask, 0)
	b.Write(masked)
}

// Len returns the number of messages in the set.
func (s *PayloadSet) Len() int { return len(s.messages) }

// Message returns message n of a connection with the given base.
func (s *PayloadSet) Message(base, n uint64) *Message {
	return &s.messages[s.place(base+n)]
}

// place returns the index of message n of the endless cycle of messages. The mask avoids a
// division, which would take longer than the rest of the lookup.
func (s *PayloadSet) place(n uint64) uint64 {
	if s.mask != 0 {
		return n & s.mask
	}
	return n % uint64(len(s.messages))
}

// Run returns the frames of a connection's messages from n on: as many as are contiguous, and at
// most limit. It leaves out the first offset bytes of the first frame. It also returns the number
// of messages, or 0 if p is a piece of one message.
func (s *PayloadSet) Run(base, n, limit uint64, offset int) (p []byte, messages uint64) {
	if s.long {
		return s.piece(s.Message(base, n), offset), 0
	}
	first, beyond := s.span(base+n, limit)
	end, _ := s.ends(beyond - 1)
	return s.frames[s.messages[first].frame.start+offset : end], beyond - first
}

// Advance returns the new position of a connection after the kernel has taken n of the bytes that
// Run returned: the number of messages sent completely, and the bytes sent of the next one. Sent
// and offset are the old position; of and messages are the length and message count that Run
// returned.
func (s *PayloadSet) Advance(base, sent uint64, offset int32, n, of int, messages uint64) (uint64, int32) {
	if n == of && messages > 0 {
		return sent + messages, 0
	}
	for offset += int32(n); offset > 0; sent++ {
		size := int32(s.Message(base, sent).frameSize())
		if offset < size {
			break
		}
		offset -= size
	}
	return sent, offset
}

// span returns the indexes of the messages from n of the endless cycle on: as many as are
// contiguous, and at most limit.
func (s *PayloadSet) span(n, limit uint64) (first, beyond uint64) {
	first = s.place(n)
	return first, min(first+limit, uint64(len(s.messages)+s.overlap))
}

// ends returns the ends of the frame and the reply with the given index, which may be in the
// overlap.
func (s *PayloadSet) ends(place uint64) (frame, reply int) {
	if over := place - uint64(len(s.messages)); place >= uint64(len(s.messages)) {
		place, frame, reply = over, s.last().frame.end, s.last().reply.end
	}
	m := &s.messages[place]
	return frame + m.frame.end, reply + m.reply.end
}

// Replied returns the number of complete replies at the start of p to a connection's messages from
// n on, at most limit, and their length in bytes. If a byte is wrong or a reply is fragmented, it
// returns 0, and the caller uses a [Parser].
func (s *PayloadSet) Replied(p []byte, base, n, limit uint64) (size int, messages uint64) {
	if s.long {
		return 0, 0
	}
	first, beyond := s.span(base+n, limit)
	start := s.messages[first].reply.start
	for place := first; place < beyond; place++ {
		_, end := s.ends(place)
		if end-start > len(p) {
			break
		}
		size = end - start
		messages++
	}
	if !bytes.Equal(p[:size], s.replies[start:start+size]) {
		return 0, 0
	}
	return size, messages
}

// piece returns a message's frame from offset on, as far as it is contiguous.
func (s *PayloadSet) piece(m *Message, offset int) []byte {
	frame := s.frames[m.frame.start:m.frame.end]
	if offset < len(frame) {
		return frame[offset:]
	}
	p := frame[m.headSize()+(offset-m.headSize())%len(m.payload):]
	return p[:min(len(p), m.frameSize()-offset)]
}

// last returns the last message before the overlap.
func (s *PayloadSet) last() *Message { return &s.messages[len(s.messages)-1] }
