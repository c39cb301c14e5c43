package echo

import "github.com/gobwas/ws"

// cutFrame holds the header fields of a frame that is being cut through.
type cutFrame struct {
	op  ws.OpCode // of the next piece
	fin bool      // the FIN bit of the whole frame, for the last piece
}

// frames processes the frames of the input. An incomplete data frame at the end remains in the input
// if keep is true and the frame fits the buffer; otherwise it is cut through.
func (e *Endpoint) frames(s *State, b *Buffer, keep bool) {
	if s.remaining > 0 {
		e.cutThrough(s, b, 0)
	}
	for s.phase != Done && s.remaining == 0 && b.Start < b.End {
		in := b.Bytes[b.Start:b.End]
		h, size, v := parseHeader(in, s.op != ws.OpContinuation)
		if v == nil && size > 0 {
			v = e.checkLength(s, h)
		}
		if v != nil {
			e.fail(s, b, v)
			return
		}
		if size == 0 {
			return
		}

		arrived := uint64(len(in) - size)
		whole := arrived >= h.length
		seen := max(0, b.Seen-size)
		switch {
		case h.op.IsControl():
			if !whole {
				return
			}
			e.control(s, b, h, size)
		case s.phase == CloseSent:
			e.beginCut(s, b, h, size, seen)
		case whole:
			e.dataFrame(s, b, h, size, seen)
		case keep && h.length <= uint64(e.cfg.MaxFrame-size):
			if !s.unmask(h, in[size:], seen, false) {
				e.fail(s, b, errTextNotUTF8)
			}
			return
		default:
			e.beginCut(s, b, h, size, seen)
		}
		b.Seen = 0
	}
}

func (e *Endpoint) checkLength(s *State, h header) *Violation {
	if e.cfg.MaxMessage == 0 || h.op.IsControl() || s.phase == CloseSent {
		return nil
	}
	if s.size+h.length > e.cfg.MaxMessage {
		return errMessageTooLong
	}
	return nil
}

// dataFrame echoes a complete data frame. Its first seen payload bytes are unmasked already.
func (e *Endpoint) dataFrame(s *State, b *Buffer, h header, size, seen int) {
	from, n := b.Start+size, int(h.length)
	if !s.unmask(h, b.Bytes[from:from+n], seen, h.fin) {
		e.fail(s, b, errTextNotUTF8)
		return
	}
	b.Start = from + n
	e.Count.frameIn(h.op, n)
	s.begin(h)
	e.reply(b, h.op, h.fin, from, n)
	e.endFrame(s, h.fin)
}

// unmask unmasks the part of a frame's payload that has arrived, except for the first seen bytes,
// which are unmasked already. It reports whether the payload is valid: it returns false for text
// that is not UTF-8. The payload ends its message if last is true.
func (s *State) unmask(h header, payload []byte, seen int, last bool) bool {
	text := h.op == ws.OpText || h.op == ws.OpContinuation && s.op == ws.OpText
	return s.unmaskNext(payload[seen:], rotated(h.mask, seen), text, last)
}

// unmaskNext unmasks the next payload bytes of a message and reports whether they are valid. Most
// text is ASCII, which the function unmask detects while it unmasks; such text is not read again.
func (s *State) unmaskNext(fresh []byte, mask uint32, text, last bool) bool {
	ascii := unmask(fresh, mask)
	if !text || ascii && s.text.whole() {
		return true
	}
	return s.text.next(fresh) && (!last || s.text.whole())
}

// begin records the header of a data frame: the opcode if it begins a message, and its length.
func (s *State) begin(h header) {
	if h.op != ws.OpContinuation {
		s.op = h.op
	}
	s.size += h.length
}

// endFrame records the end of a data frame, which is the end of its message if fin is true.
func (e *Endpoint) endFrame(s *State, fin bool) {
	if !fin {
		return
	}
	if s.phase == Open {
		e.Count.Messages[s.op]++
	}
	s.op, s.size = ws.OpContinuation, 0
}

// beginCut starts cutting a data frame through. Its first seen payload bytes are unmasked and
// checked already.
func (e *Endpoint) beginCut(s *State, b *Buffer, h header, size, seen int) {
	if s.phase == Open {
		e.Count.FramesIn[h.op]++
	}
	s.begin(h)
	s.remaining = h.length
	s.mask = h.mask
	s.cut = cutFrame{op: h.op, fin: h.fin}
	b.Start += size
	e.cutThrough(s, b, seen)
}

// cutThrough sends the payload that has arrived of the frame being cut through, as one fragment of
// its message. In phase CloseSent it discards the payload.
func (e *Endpoint) cutThrough(s *State, b *Buffer, seen int) {
	n := int(min(s.remaining, uint64(b.End-b.Start)))
	from := b.Start
	b.Start += n
	s.remaining -= uint64(n)
	last := s.remaining == 0
	fin := last && s.cut.fin

	if s.phase == Open && n > 0 {
		if !s.unmaskNext(b.Bytes[from+seen:from+n], rotated(s.mask, seen), s.op == ws.OpText, fin) {
			e.fail(s, b, errTextNotUTF8)
			return
		}
		e.Count.PayloadIn[s.cut.op] += uint64(n)
		e.reply(b, s.cut.op, fin, from, n)
		s.cut.op = ws.OpContinuation
		s.mask = rotated(s.mask, n)
	}
	if last {
		e.endFrame(s, s.cut.fin)
	}
}

// reply adds a frame to the output. Its payload is the n bytes of the buffer at from. For the first
// reply of a call it writes the header just before the payload. It moves the payload of a later
// reply to just after the previous reply, which never overwrites unread input, because every later
// reply is shorter than its frame.
func (e *Endpoint) reply(b *Buffer, op ws.OpCode, fin bool, from, n int) {
	size := headerSize(n)
	if b.Out == b.OutEnd {
		b.Out = from - size
		b.OutEnd = b.Out
	} else {
		copy(b.Bytes[b.OutEnd+size:], b.Bytes[from:from+n])
	}
	putHeader(b.Bytes[b.OutEnd:], op, fin, n)
	b.OutEnd += size + n
	e.Count.frameOut(op, n)
}
