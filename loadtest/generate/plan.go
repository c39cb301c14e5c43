// Package generate puts load on a WebSocket echo server: event loops open connections, send
// messages, and compare the replies, after a [Plan]. [Workers] are what other packages see of it;
// what the connections experience is in their counts (package stats).
package generate

import (
	"net/netip"
	"time"

	"wsecho/loadtest/wire"
)

// Mode is what connections do.
type Mode string

const (
	Echo    Mode = "echo"    // send and await replies until the time is over
	Idle    Mode = "idle"    // echo once, then stay open and silent
	Connect Mode = "connect" // open, echo once, close, and begin again
)

// A Plan is what is to be done. It does not change while it is done.
type Plan struct {
	Mode         Mode
	Target       Target
	RequestHead  []byte       // of the opening requests: see wire.RequestHead
	Subprotocols []string     // that are offered
	Greetings    uint8        // messages that the server sends before the first echo
	Sources      []netip.Addr // local addresses, used in turn; empty: the kernel chooses

	Connections int
	Workers     int
	Handshakes  int  // that a worker may have outstanding
	Ramp        Pace // at which connections are opened
	Rate        Pace // of messages, or in mode Connect of connections; 0: a closed loop
	InFlight    int  // messages that a connection may have outstanding
	Reopen      bool // connections that the server closes or loses are opened again
	Leave       bool // at the end, connections are not closed by the close handshake
	Payloads    *wire.PayloadSet
	Timeout     time.Duration // for a handshake, a reply, and the end of a connection

	Clock Clock // every time of a run is a time of this clock
}

// Paced reports whether messages are sent at a fixed rate. Otherwise the loop is closed: a message
// is sent when a reply has come.
func (p *Plan) Paced() bool { return p.Rate.PerSecond > 0 }

// slotsOf returns how many of the connections belong to a worker.
func slotsOf(worker, workers, connections int) int {
	return (connections - worker + workers - 1) / workers
}
