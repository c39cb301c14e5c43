package chaos

import (
	"encoding/binary"
	"math/bits"

	"github.com/gobwas/ws"
)

// A speech is what a peer says: messages, pings in between, cut into frames,
// all of it rolled from a seed. Nothing of it is kept: whoever sends it and
// whoever verifies its echo each walk through a copy of their own. So a peer
// costs as little for 64 MiB as for one byte.
type speech struct {
	topic *topic
	dice  dice
	left  int // messages that have not begun
	whole int // messages that are behind us

	msg   message // being said
	frame frame   // being said
	at    int     // bytes of it, on the wire, that are behind us
}

// A topic is what kind of messages a speech has.
type topic struct {
	most       int  // bytes of the longest message; shorter ones are of all orders of magnitude
	exact      bool // all are of that length
	fragmented int  // of a hundred messages
	pinged     int  // of a hundred frames: have a ping before them
}

type message struct {
	op     ws.OpCode // of its next frame
	text   bool
	seed   uint64
	length int
	off    int // bytes in frames that have begun
	pieces int // frames that have not begun
}

// frame is a frame as a client sends it.
type frame struct {
	op     ws.OpCode
	fin    bool
	of     message // of.off is where its payload begins
	length int
	mask   [4]byte
	size   int // on the wire, header included
}

// endless is more messages than anybody will say.
const endless = 1 << 60

func newSpeech(t *topic, seed uint64, messages int) speech {
	return speech{topic: t, dice: dice(seed), left: messages}
}

// over says whether all has been said.
func (s *speech) over() bool { return s.at == s.frame.size && s.left == 0 && s.msg.pieces == 0 }

// render writes to p what is to be said next, as it goes over the wire, until
// so many messages are whole, and says how much that is: a part of a frame, or many.
func (s *speech) render(p []byte, messages int) int {
	n := 0
	for n < len(p) && s.whole < messages && s.more() {
		part := p[n:min(len(p), n+s.frame.size-s.at)]
		s.frame.render(part, s.at)
		s.pass(len(part))
		n += len(part)
	}
	return n
}

// skip walks on as if n bytes had been rendered.
func (s *speech) skip(n int) {
	for n > 0 && s.more() {
		part := min(n, s.frame.size-s.at)
		s.pass(part)
		n -= part
	}
}

// more sees to it that there is something of the frame left, if there is
// something of the speech left.
func (s *speech) more() bool {
	for s.at == s.frame.size {
		if s.over() {
			return false
		}
		s.next()
	}
	return true
}

// pass walks n bytes on within the frame.
func (s *speech) pass(n int) {
	s.at += n
	if s.at == s.frame.size && s.frame.fin && !s.frame.op.IsControl() {
		s.whole++
	}
}

// next begins the next frame.
func (s *speech) next() {
	s.at = 0
	m := &s.msg
	if m.pieces == 0 {
		s.left--
		*m = s.topic.message(&s.dice)
	}
	if s.frame.op != ws.OpPing && s.dice.chance(s.topic.pinged) {
		n := s.dice.below(ws.MaxControlFramePayloadSize + 1)
		s.begin(frame{op: ws.OpPing, fin: true, length: n, of: message{seed: s.dice.roll(), length: n}})
		return
	}
	m.pieces--
	f := frame{op: m.op, fin: m.pieces == 0, of: *m, length: m.length - m.off}
	if !f.fin {
		f.length = s.dice.below(f.length + 1)
	}
	m.op = ws.OpContinuation
	m.off += f.length
	s.begin(f)
}

func (s *speech) begin(f frame) {
	binary.LittleEndian.PutUint32(f.mask[:], uint32(s.dice.roll()))
	f.size = ws.HeaderSize(f.header()) + f.length
	s.frame = f
}

func (t *topic) message(d *dice) message {
	m := message{op: ws.OpBinary, seed: d.roll(), length: t.most, pieces: 1}
	if !t.exact {
		m.length = min(t.most, d.below(1<<d.below(bits.Len(uint(t.most))+1)))
	}
	if d.chance(50) {
		m.op, m.text = ws.OpText, true
	}
	if d.chance(t.fragmented) {
		m.pieces = 2 + d.below(4)
	}
	return m
}

func (f *frame) header() ws.Header {
	return ws.Header{Fin: f.fin, OpCode: f.op, Masked: true, Mask: f.mask, Length: int64(f.length)}
}

// render writes to p the frame's bytes on the wire from at on.
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

// putHeader appends the header of a client's frame (RFC 6455, section 5.2).
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

// render writes to p the message's payload from off on. It is made in words
// of eight bytes, each a function of the seed and of where it stands.
func (m *message) render(p []byte, off int) {
	for len(p) > 0 {
		var word [8]byte
		m.word(&word, off&^7)
		n := copy(p, word[off&7:])
		p, off = p[n:], off+n
	}
}

// word is the payload's word at an offset. Half of the words of a text have
// characters of two and three bytes; the last one, which may be cut off, has not.
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

// dice are pseudo-random numbers (splitmix64). Their state is one number, so
// that a copy rolls the same.
type dice uint64

const golden = 0x9e3779b97f4a7c15

func (d *dice) roll() uint64 {
	*d += golden
	return mix(uint64(*d))
}

// below is a number from 0 to n-1.
func (d *dice) below(n int) int { return int(d.roll() % uint64(n)) }

// chance is true so many times of a hundred.
func (d *dice) chance(percent int) bool { return percent > 0 && d.below(100) < percent }

// fork is dice for a purpose of its own, so that what one does with its dice
// does not change what another rolls.
func (d dice) fork(purpose string) dice {
	for _, c := range []byte(purpose) {
		d = dice(mix(uint64(d)*golden + uint64(c) + 1))
	}
	return d
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
