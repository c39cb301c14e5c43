package echo

import "github.com/gobwas/ws"

// Phase is the state of a connection in the protocol's lifecycle. The worker pool keeps the state
// of the TCP connection below it.
//
//	              request                close
//	Handshake ───────────────▶ Open ───────────────▶ Done
//	    │                       │ Goodbye             ▲
//	    │                       ▼        close        │
//	    │ refused           CloseSent ────────────────┤
//	    └─────────────────────────────────────────────┘
type Phase uint8

const (
	// Handshake: input is collected until the request is complete. A valid request is answered
	// with 101 and leads to Open. An invalid one is refused with an HTTP status and leads to Done.
	Handshake Phase = iota

	// Open: messages are echoed and pings are answered. A close frame of the peer, or a violation
	// of the protocol, is answered with a close frame and leads to Done.
	Open

	// CloseSent: we have sent a close frame first, and must not send anything after it (section
	// 5.5.1). Other frames are discarded, since the peer may have sent them before it received our
	// close frame. The peer's close frame leads to Done.
	CloseSent

	// Done: no more output follows, and all input is ignored.
	Done
)

// Phase returns the phase of the connection.
func (s *State) Phase() Phase { return s.phase }

// InLongFrame reports whether the connection is inside a frame that is being cut through.
func (s *State) InLongFrame() bool { return s.remaining > 0 }

// Code returns the code with which we ended the connection, or 0 if we have not. A value below
// 1000 is the HTTP status of a refusal. Other values are the code of the close frame that we sent,
// or StatusNoStatusRcvd if the frame had none.
func (s *State) Code() int { return int(s.code) }

// setPhase is the only function that changes the phase. A connection never returns to an earlier
// phase. The code is that of the close frame or the refusal that leads to the phase, and 0 for
// Open.
func (s *State) setPhase(p Phase, code int) {
	if p <= s.phase {
		panic("echo: a connection cannot go back to an earlier phase")
	}
	s.phase = p
	s.code = uint16(code)
}

// Goodbye ends the connection from our side. It appends the final output to dst and returns the
// extended slice: a close frame with the code and reason if the phase is Open, or a refusal with
// status 503 if it is Handshake. In other phases it appends nothing, since the connection is ending
// already. The output is shorter than Tailroom.
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

// Refuse ends a connection in phase Handshake: it appends the refusal to dst and returns the
// extended slice. In every other phase it does nothing.
func (e *Endpoint) Refuse(dst []byte, s *State, r *Refusal) []byte {
	if s.phase != Handshake {
		return dst
	}
	s.setPhase(Done, r.Status)
	return r.append(dst, e.cfg.Now(), true)
}

// Ping appends an empty ping to dst and returns the extended slice. A peer must answer it with a
// pong (section 5.5.2). The phase of the connection must be Open.
func (e *Endpoint) Ping(dst []byte) []byte {
	e.Count.frameOut(ws.OpPing, 0)
	return append(dst, byte(ws.OpPing)|finBit, 0)
}
