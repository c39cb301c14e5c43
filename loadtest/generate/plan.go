// Package generate puts load on a WebSocket echo server: event loops open connections, send
// messages and compare the replies, as a [Plan] describes. Other packages control them through
// [Workers] and read their results as counts (package stats).
package generate

import (
	"net/netip"
	"time"

	"wsecho/loadtest/wire"
)

// A Mode is what connections do.
type Mode string

const (
	Echo    Mode = "echo"    // send messages and compare replies until the end of sending
	Idle    Mode = "idle"    // echo once, then stay open and silent
	Connect Mode = "connect" // open, echo once, close, and repeat
)

// A Plan describes a run. It does not change during the run.
type Plan struct {
	Mode         Mode
	Target       Target
	RequestHead  []byte       // of the opening requests: see wire.RequestHead
	Subprotocols []string     // to offer in the opening request
	Greetings    uint8        // messages that the server sends before the first echo
	Sources      []netip.Addr // local addresses, used in turn; empty: the kernel chooses

	Connections int
	Workers     int
	Handshakes  int  // maximum number outstanding per worker
	Ramp        Pace // of opening connections
	Rate        Pace // of messages, or in mode Connect of connections; 0: closed loop
	InFlight    int  // maximum number of outstanding messages per connection
	Reopen      bool // reopen connections that the server closes or loses
	Leave       bool // at the end, close TCP without the close handshake
	Payloads    *wire.PayloadSet
	Timeout     time.Duration // for a handshake, a reply, and the end of a connection

	Clock Clock // every time of a run is a time of this clock
}

// Paced reports whether messages are sent at a fixed rate. Otherwise the loop is closed: a
// connection sends its next message when a reply arrives.
func (p *Plan) Paced() bool { return p.Rate.PerSecond > 0 }

// slotsOf returns the number of connections that belong to a worker.
func slotsOf(worker, workers, connections int) int {
	return (connections - worker + workers - 1) / workers
}
