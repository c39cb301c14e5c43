// Package echo implements the server side of RFC 6455 for an echo server, without I/O: it knows
// bytes, never sockets. The caller gives [Endpoint.Receive] the bytes that have arrived and the
// connection's [State]. Receive leaves the bytes to send in the same [Buffer], together with the
// unfinished input that it needs again. It does not block, start goroutines, or keep references
// to its arguments.
//
// # Echo in place
//
// A client's frame consists of a header, a masking key of four bytes, and the masked payload. Its
// echo consists of the same header without the MASK bit, and the unmasked payload.
//
//	request   | header | mask | masked payload |
//	reply          | header   | payload        |
//
// The reply is therefore four bytes shorter than the request, and Receive builds it in the memory
// of the request: it unmasks the payload and writes the header just before it. It moves the replies
// to frames that arrived together next to each other, so that one system call sends them all. Pongs
// and close replies are built in the same way.
//
// # Segmentation does not change the output
//
// The output does not depend on how the network has split the input into segments. A frame that has
// not arrived completely stays in the buffer as rest, and the next call gets it again at the front
// of its input. Receive unmasks the payload that has arrived, and checks it if it is text, without
// waiting for the end of the frame. An invalid byte therefore ends the connection as soon as it
// arrives (section 8.1), and a frame that arrives byte by byte costs no more than a complete one.
//
// The exception is a frame that is longer than Config.MaxFrame, or that the caller has no memory
// for. Such a frame is cut through: Receive sends the payload that has arrived as a fragment, and
// the payload that follows as continuation frames. The message is the same, but its fragments show
// how it arrived.
package echo

import (
	"time"
	"unsafe"

	"github.com/gobwas/ws"
)

// Headroom and Tailroom are the free bytes that a [Buffer] has before and after its input. Three
// kinds of reply can be longer than their input. The header of a continuation frame, made for the
// second part of a frame, and the 101 response to a very short request extend into Headroom. A
// close frame with the rule that the peer broke extends into Tailroom. The refusal of a request
// overwrites the buffer from its start, and so does a [Page], for which a buffer with a request
// must have MaxPage bytes.
const (
	Headroom = 64
	Tailroom = 512
)

// Config holds the settings that all connections share.
type Config struct {
	MaxMessage uint64 // payload bytes of one message, over all its fragments; 0: no limit
	MaxHeader  int    // bytes of the opening request, blank line included
	MaxFrame   int    // bytes of the longest frame, header included, that is kept until complete

	// AnySubprotocol selects the first subprotocol that a client offers;
	// otherwise the first that is also one of Subprotocols.
	AnySubprotocol bool
	Subprotocols   []string

	// AnyOrigin admits pages from every origin; otherwise one of Origins must admit the Origin of a
	// request. A request without Origin does not come from a browser and is admitted.
	AnyOrigin bool
	Origins   []Origin

	// Page answers browsers that open the server's address; nil: they get 426, like every other
	// request that is not a handshake.
	Page *Page

	// Now returns the wall-clock time for the Date field of a response
	// (RFC 9110, section 6.6.1). Nothing else depends on it.
	Now func() time.Time
}

// An Endpoint is the server's end of any number of connections. It holds the scratch memory of
// one call, while a [State] holds what a connection needs between two calls. An Endpoint belongs to
// one goroutine; each worker has its own.
type Endpoint struct {
	cfg      Config
	upgrader upgrader

	// Count counts the frames and messages of all connections.
	Count Counters
}

// New returns an endpoint.
func New(cfg Config) *Endpoint {
	e := &Endpoint{cfg: cfg}
	e.upgrader.init(&e.cfg)
	return e
}

// State holds everything that the protocol remembers about a connection from one call to the next.
// It is part of the connection's slot, which is outside Go's heap. Its size is therefore 32 bytes,
// and it contains no pointer. The zero State is that of a new connection in phase Handshake.
type State struct {
	remaining uint64    // payload bytes of the frame being cut through that have not arrived
	size      uint64    // payload bytes of the message in progress, in its frames so far
	mask      uint32    // of the frame being cut through; the lowest byte is for the next payload byte
	text      utf8Check // of the message in progress, if it is text
	op        ws.OpCode // of the message in progress; OpContinuation: there is none
	cut       cutFrame  // of the frame being cut through: the header of its next piece
	phase     Phase
	code      uint16 // see State.Code
}

var _ [32]byte = [unsafe.Sizeof(State{})]byte{} // a slot has room for 32 bytes

// Upgraded returns the State of a connection whose opening handshake another server, such as
// net/http, has completed.
func Upgraded() State { return State{phase: Open} }

// Buffer is the memory that input, replies and rest share.
type Buffer struct {
	Bytes []byte

	// Bytes[Start:End] is the input. The caller leaves Headroom bytes before Start and Tailroom
	// bytes after End. When Receive returns, Bytes[Start:End] is the rest: the unfinished beginning
	// of a frame or of a request. The next call must get it again, in front of new input.
	Start, End int

	// Seen is the number of bytes at the front of the input that are the rest of the last call.
	// They must be unchanged, since Receive may have unmasked them already.
	Seen int

	// Bytes[Out:OutEnd] is the output, to be sent now. Receive sets it.
	Out, OutEnd int
}

// Receive processes the input of b as far as possible. If keep is false, the caller has no memory
// for an unfinished data frame, and Receive cuts the frame through. The rest is then an unfinished
// request, or shorter than the longest control frame.
//
// If the phase is Done when Receive returns, the caller must end the connection after it has sent
// the output. There is no rest then, and further input is ignored.
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
