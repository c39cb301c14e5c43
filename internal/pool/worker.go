package pool

import (
	"golang.org/x/sys/cpu"

	"wsecho/internal/netpoll"
)

// eventBatch is the maximum number of events that one wait returns. A larger batch would save
// little and delay its last event.
const eventBatch = 256

// A worker is an event loop. All of it belongs to the goroutine that calls run, except mail.
type worker struct {
	conns    conns
	acceptor acceptor
	drain    drain

	clock    func() tick
	place    func(arrival) bool // hands a connection to a worker: see Pool.place
	events   []netpoll.Event
	messages []message // taken from mail
	swept    tick      // when housekeep last ran

	failure error         // why the worker failed; valid once ended is closed
	ended   chan struct{} // closed when the worker has ended, and neither reads messages nor accesses connections

	_    cpu.CacheLinePad // see conns
	mail mailbox
}

// drain is the state of a worker's part in a shutdown.
type drain struct {
	begun   bool
	hurried bool // hurryAt has been reached
	hurryAt tick // when all connections are sent a close frame, even those with unread echoes
	cutAt   tick // when the remaining connections are closed
}
