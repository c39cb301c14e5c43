package pool

import (
	"wsecho/internal/netpoll"
)

// eventBatch is the most events that one wait returns. More would save little and let the last of
// them wait longer.
const eventBatch = 256

// A worker is an event loop. All of it belongs to the goroutine of run, except mail.
type worker struct {
	conns    conns
	acceptor acceptor
	drain    drain

	clock    func() tick
	place    func(arrival) bool // finds a worker for a connection: see Pool.place
	events   []netpoll.Event
	messages []message // taken from mail
	swept    tick      // when housekeep last ran

	failure error         // why the worker failed; valid once ended is closed
	ended   chan struct{} // closed when the worker has ended: it touches nothing and reads no message

	_    [64]byte // see conns
	mail mailbox
}

// drain is the state of a worker's part in a shutdown.
type drain struct {
	begun   bool
	hurried bool // hurryAt has been reached
	hurryAt tick // when all connections are told, even if they have unread echoes
	cutAt   tick // when the connections that remain are closed
}
