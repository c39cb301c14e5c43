// Package echo is the protocol: RFC 6455 as a server speaks it that sends back
// whatever it is sent. It knows bytes, never sockets: an [Endpoint] is given
// the bytes that have arrived and a connection's [State], and leaves in the
// same [Buffer] the bytes to send and those it cannot use yet. It never blocks,
// starts nothing, and keeps no reference to what it was given.
//
// # In place
//
// A client's frame is a header, four bytes of mask and the payload; its echo
// is the same header without mask bit and mask, then the payload unmasked.
//
//	request   | header | mask | masked payload |
//	reply          | header   | payload        |
//
// So the reply is four bytes shorter than the request and is made where the
// request lies: unmask, then write the header right before. Replies to frames
// that arrived together are moved next to each other and leave as one run of
// bytes. Pongs and close replies are made in the same way.
//
// # Any cut of the input gives the same output
//
// How the network cut the peer's bytes into segments must not show. A frame
// that has not arrived whole stays in the buffer as rest; the next call
// gets it again at the front of its input. Payload that has arrived is
// unmasked and, if it is text, checked at once all the same, so that an
// impossible byte ends the connection when it arrives (section 8.1) and not
// when its frame is complete, and so that a frame that comes a byte at a time
// costs no more than one that comes whole.
//
// The exception is a frame too long to be kept, or one for which the caller has no memory:
// it is cut through, which means that what has arrived goes back as a fragment and the rest
// as continuations. The message is the same; its fragments show how it arrived.
package echo

import (
	"time"
	"unsafe"

	"github.com/gobwas/ws"
)

// Room that a [Buffer] keeps on either side of its input. Replies are never
// longer than the input but for three: the header of a continuation made for
// the second half of a frame, a switching response to the tersest of requests,
// both of which extend to the left, and a close frame that says which rule was
// broken, to the right. A refused request is answered from the start of
// the buffer, over it.
const (
	Headroom = 64
	Tailroom = 512
)

// Config is what all connections have in common.
type Config struct {
	MaxMessage uint64 // payload bytes of one message, over all its fragments; 0: no limit
	MaxHeader  int    // bytes of the opening request, blank line included
	MaxFrame   int    // bytes of a frame, header included, that is kept until it is whole

	// AnySubprotocol selects the first subprotocol that a client offers;
	// otherwise the first that is also one of Subprotocols.
	AnySubprotocol bool
	Subprotocols   []string

	// AnyOrigin admits pages from everywhere; otherwise one of Origins must admit the Origin of a
	// request. A request without Origin is not from a browser and is admitted.
	AnyOrigin bool
	Origins   []Origin

	// Now gives the wall-clock time for the Date field of a refusal
	// (RFC 9110, section 6.6.1). Nothing else depends on it.
	Now func() time.Time
}

// An Endpoint is the server's end of any number of connections. It holds what
// their protocol needs between two bytes but not between two calls, so each
// worker has one and nobody else uses it.
type Endpoint struct {
	cfg      Config
	upgrader upgrader

	// Count is of all that this endpoint has been given and has answered.
	Count Counters
}

// New makes an endpoint.
func New(cfg Config) *Endpoint {
	e := &Endpoint{cfg: cfg}
	e.upgrader.init(&e.cfg)
	return e
}

// State is all that the protocol remembers of a connection from one call to
// the next. It has no pointer and is 32 bytes long, for it is a part of the
// connection's slot. The zero State is a connection that has said nothing yet.
type State struct {
	remaining uint64    // payload bytes of the frame being cut through that have not arrived
	size      uint64    // payload bytes of the message in progress, in its frames so far
	mask      uint32    // of the frame being cut through; its lowest byte is for the next of the payload
	text      utf8Check // of the message in progress, if it is text
	op        ws.OpCode // of the message in progress; OpContinuation: there is none
	cut       cutFrame  // what is left to say of the frame being cut through
	phase     Phase
	code      uint16 // see State.Code
}

var _ [32]byte = [unsafe.Sizeof(State{})]byte{} // a slot has room for 32 bytes

// Upgraded is the State of a connection whose opening handshake somebody else
// has completed.
func Upgraded() State { return State{phase: Open} }

// Buffer is a run of bytes that input, replies and rest share.
type Buffer struct {
	Bytes []byte

	// Bytes[Start:End] is input. The caller leaves Headroom before Start and
	// Tailroom after End. When Receive returns it is the rest: the beginning of
	// a frame or of a request, to be given again, in front of what arrives next.
	Start, End int

	// Seen is how much of the input, from Start, is such rest of the last call.
	// Its bytes must be as Receive left them.
	Seen int

	// Bytes[Out:OutEnd] is what is to be sent now. Receive sets it.
	Out, OutEnd int
}

// Receive takes the input of b as far as it can. If keep is false the caller
// cannot keep the rest of a data frame, and it is cut through; rest is
// then less than a control frame, or an unfinished request.
//
// When it returns and the phase is Done, the connection is to be ended after
// the reply has been sent; there is no rest then, and no use in more input.
func (e *Endpoint) Receive(s *State, b *Buffer, keep bool) {
	b.Out, b.OutEnd = b.Start, b.Start
	if s.phase == Handshake {
		e.upgrade(s, b)
	}
	if s.phase == Open || s.phase == CloseSent {
		e.frames(s, b, keep)
	}
	if s.phase == Done {
		b.Start = b.End
	}
	b.Seen = b.End - b.Start
}
