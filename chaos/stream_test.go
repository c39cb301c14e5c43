package chaos

import (
	"encoding/binary"
	"math/bits"

	"github.com/gobwas/ws"
)

// A stream generates the messages that a peer sends, with pings between their frames, from a seed.
// The bytes are not stored: the sender and the verifier of the echo each generate them from their
// own copy, so a peer needs no more memory for 64 MiB than for one byte.
type stream struct {
	traffic   *traffic
	rng       rng
	remaining int // messages not started yet
	completed int // completed messages

	msg   message // current message
	frame frame   // current frame
	at    int     // offset in the frame, header included
}

// traffic describes the messages of a stream.
type traffic struct {
	maxSize    int  // longest message in bytes; shorter ones have all orders of magnitude
	fixed      bool // all messages have that length
	fragmented int  // percentage of messages that are fragmented
	pinged     int  // percentage of frames that follow a ping
}

type message struct {
	op     ws.OpCode // opcode of the next frame
	text   bool
	seed   uint64
	length int
	off    int // payload bytes of the frames started so far
	pieces int // frames not started yet
}

// frame is a masked frame of a client.
type frame struct {
	op     ws.OpCode
	fin    bool
	of     message // its message; of.off is the offset of the frame's payload
	length int
	mask   [4]byte
	size   int // bytes on the wire, header included
}

// endless is a number of messages that no stream reaches.
const endless = 1 << 60

func newStream(t *traffic, seed uint64, messages int) stream {
	return stream{traffic: t, rng: rng(seed), remaining: messages}
}

// done reports whether the stream has ended.
func (s *stream) done() bool { return s.at == s.frame.size && s.remaining == 0 && s.msg.pieces == 0 }

// render writes the next wire bytes of the stream to p, until p is full or the given number of
// messages is complete. It returns the number of bytes, which may be part of a frame or many
// frames.
func (s *stream) render(p []byte, messages int) int {
	n := 0
	for n < len(p) && s.completed < messages && s.more() {
		part := p[n:min(len(p), n+s.frame.size-s.at)]
		s.frame.render(part, s.at)
		s.advance(len(part))
		n += len(part)
	}
	return n
}

// skip advances the stream by n wire bytes.
func (s *stream) skip(n int) {
	for n > 0 && s.more() {
		part := min(n, s.frame.size-s.at)
		s.advance(part)
		n -= part
	}
}

// more starts the next frame if the current one is complete. It reports false at the end of the
// stream.
func (s *stream) more() bool {
	for s.at == s.frame.size {
		if s.done() {
			return false
		}
		s.next()
	}
	return true
}

// advance advances the stream by n wire bytes of the current frame.
func (s *stream) advance(n int) {
	s.at += n
	if s.at == s.frame.size && s.frame.fin && !s.frame.op.IsControl() {
		s.completed++
	}
}

// next starts the next frame.
func (s *stream) next() {
	s.at = 0
	m := &s.msg
	if m.pieces == 0 {
		s.remaining--
		*m = s.traffic.message(&s.rng)
	}
	if s.frame.op != ws.OpPing && s.rng.chance(s.traffic.pinged) {
		n := s.rng.intN(ws.MaxControlFramePayloadSize + 1)
		s.begin(frame{op: ws.OpPing, fin: true, length: n, of: message{seed: s.rng.next(), length: n}})
		return
	}
	m.pieces--
	f := frame{op: m.op, fin: m.pieces == 0, of: *m, length: m.length - m.off}
	if !f.fin {
		f.length = s.rng.intN(f.length + 1)
	}
	m.op = ws.OpContinuation
	m.off += f.length
	s.begin(f)
}

func (s *stream) begin(f frame) {
	binary.LittleEndian.PutUint32(f.mask[:], uint32(s.rng.next()))
	f.size = ws.HeaderSize(f.header()) + f.length
	s.frame = f
}

func (t *traffic) message(r *rng) message {
	m := message{op: ws.OpBinary, seed: r.next(), length: t.maxSize, pieces: 1}
	if !t.fixed {
		m.length = min(t.maxSize, r.intN(1<<r.intN(bits.Len(uint(t.maxSize))+1)))
	}
	if r.chance(50) {
		m.op, m.text = ws.OpText, true
	}
	if r.chance(t.fragmented) {
		m.pieces = 2 + r.intN(4)
	}
	return m
}

func (f *frame) header() ws.Header {
	return ws.Header{Fin: f.fin, OpCode: f.op, Masked: true, Mask: f.mask, Length: int64(f.length)}
}

// render writes the frame's wire bytes, starting at offset at, to p.
func (f *frame) render(p []byte, at int) {
	head := f.size - f.length
	if at < head {
		var buf [ws.MaxHeaderSize]byte
		n := copy(p, putHeader(buf[:0], f.header())[at:])
		p, at = p[n:], at+n
	}
	if len(p) > 0 {
		f.of.render(p, f.of.off+at-head)
		ws.Cipher(p, f.mask, at-head)
	}
}

// putHeader appends the header of a masked frame to dst (RFC 6455, section 5.2).
func putHeader(dst []byte, h ws.Header) []byte {
	first := byte(h.OpCode)
	if h.Fin {
		first |= 0x80
	}
	switch {
	case h.Length < 126:
		dst = append(dst, first, 0x80|byte(h.Length))
	case h.Length <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, first, 0x80|126), uint16(h.Length))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, 0x80|127), uint64(h.Length))
	}
	return append(dst, h.Mask[:]...)
}

// render writes the message's payload, starting at offset off, to p. The payload consists of words
// of eight bytes, each a function of the seed and the word's offset.
func (m *message) render(p []byte, off int) {
	for len(p) > 0 {
		var word [8]byte
		m.word(&word, off&^7)
		n := copy(p, word[off&7:])
		p, off = p[n:], off+n
	}
}

// word writes the payload's word at an offset to w. In a text, half of the words have characters of
// two and three bytes; the last word may be cut off, so it is ASCII.
func (m *message) word(w *[8]byte, at int) {
	h := mix(m.seed + uint64(at))
	switch {
	case !m.text:
		binary.LittleEndian.PutUint64(w[:], h)
	case h&1 == 0 || at+8 > m.length:
		binary.LittleEndian.PutUint64(w[:], h>>1&0x7f7f7f7f7f7f7f7f)
	default:
		next := func(bits int) byte { h >>= bits; return byte(h) & (1<<bits - 1) }
		tail := func() byte { return 0x80 | next(6) }
		*w = [8]byte{0xe1 + next(3), tail(), tail(), 0xe1 + next(3), tail(), tail(), 0xc2 + next(4), tail()}
	}
}

// rng is a pseudo-random number generator (splitmix64). Its state is one number, and a copy
// generates the same sequence.
type rng uint64

const golden = 0x9e3779b97f4a7c15

func (r *rng) next() uint64 {
	*r += golden
	return mix(uint64(*r))
}

// intN returns a number from 0 to n-1.
func (r *rng) intN(n int) int { return int(r.next() % uint64(n)) }

// chance returns true with a probability in percent.
func (r *rng) chance(percent int) bool { return percent > 0 && r.intN(100) < percent }

// fork returns a generator for one purpose, so that numbers drawn for it do not change those drawn
// for another.
func (r rng) fork(purpose string) rng {
	for _, c := range []byte(purpose) {
		r = rng(mix(uint64(r)*golden + uint64(c) + 1))
	}
	return r
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
