package echo

import "github.com/gobwas/ws"

// Phase is how far a connection has come in the protocol's life. What its TCP
// connection does beside it is the worker pool's business.
//
//	              request                close
//	Handshake ───────────────▶ Open ───────────────▶ Done
//	    │                       │ Goodbye             ▲
//	    │                       ▼        close        │
//	    │ refused           CloseSent ────────────────┤
//	    └─────────────────────────────────────────────┘
type Phase uint8

const (
	// Handshake: bytes gather until they are a whole request. A good one is
	// answered with 101 and leads to Open; a bad one with its HTTP status, and
	// to Done.
	Handshake Phase = iota

	// Open: messages are echoed and pings answered. The peer's close frame, or
	// a rule it breaks, is answered with a close frame and leads to Done.
	Open

	// CloseSent: we have sent a close frame first and may send nothing after it
	// (section 5.5.1). Whatever arrives is read past, for the peer may have sent it before it
	// saw ours. Its own close frame leads to Done.
	CloseSent

	// Done: the last byte to be sent has been made. Nothing that arrives is
	// looked at.
	Done
)

// Phase returns how far the connection has come.
func (s *State) Phase() Phase { return s.phase }

// InLongFrame reports whether the connection is inside a frame that is being cut through.
func (s *State) InLongFrame() bool { return s.remaining > 0 }

// Code returns how a connection came to be Done: below 1000, the HTTP status with
// which its request was refused; else the code of the close frame
// that we sent, or StatusNoStatusRcvd if that had none.
func (s *State) Code() int { return int(s.code) }

// setPhase is the only place that changes the phase, which never goes back. Code is that of the close
// frame or refusal with which we enter it; 0 for Open.
func (s *State) setPhase(p Phase, code int) {
	if p <= s.phase {
		panic("echo: a connection cannot go back to an earlier phase")
	}
	s.phase = p
	s.code = uint16(code)
}

// Goodbye ends the connection from our side: it appends to dst what says so,
// which is a close frame with the given code to an open connection and a refusal with
// 503 to one that has not finished its request. To one that is ending already
// it says nothing. What is appended is shorter than Tailroom.
func (e *Endpoint) Goodbye(dst []byte, s *State, code ws.StatusCode, reason string) []byte {
	switch s.phase {
	case Handshake:
		s.setPhase(Done, refuseShutdown.Status)
		dst = refuseShutdown.append(dst, e.cfg.Now(), true)
	case Open:
		s.setPhase(CloseSent, int(code))
		dst = e.appendClose(dst, code, reason)
	case CloseSent, Done:
	}
	return dst
}

// Refuse ends a connection that has not finished its request with the given
// refusal; in every other phase it does nothing.
func (e *Endpoint) Refuse(dst []byte, s *State, r *Refusal) []byte {
	if s.phase != Handshake {
		return dst
	}
	s.setPhase(Done, r.Status)
	return r.append(dst, e.cfg.Now(), true)
}

// Ping appends to dst an empty ping, which any living peer answers (section
// 5.5.2). It may be sent to an open connection only.
func (e *Endpoint) Ping(dst []byte) []byte {
	e.Count.frameOut(ws.OpPing, 0)
	return append(dst, byte(ws.OpPing)|finBit, 0)
}
