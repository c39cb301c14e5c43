package pool

import (
	"maps"
	"sync/atomic"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
	"wsecho/internal/offheap"
)

// conns are the connections of one worker, and what the worker does with them. All of it belongs
// to the worker's goroutine, except load.
type conns struct {
	cfg      *Config
	index    int // of the worker
	slots    []slot
	limits   [numTimeouts]tick // 0: none
	poller   *netpoll.Poller
	endpoint *echo.Endpoint
	store    store
	census   *census
	warnings *warnings
	observer observer
	progress progress
	count    Counters

	now       tick
	mine      fdSet // all connections
	deadlines deadlines
	queue     []life // that continue in the next pass: see goOn
	surplus   int    // connections that are only to be refused

	_    [64]byte     // keeps what others write off the cache lines of what the owner reads
	load atomic.Int64 // connections that belong to the worker or are on their way to it
}

// open allocates what the connections need. After an error, close frees it.
func (cs *conns) open(maxFDs int) (err error) {
	if cs.mine, err = offheap.Make[uint64](maxFDs/64 + 1); err != nil {
		return err
	}
	if cs.deadlines.set, err = offheap.Make[uint64](maxFDs/64 + 1); err != nil {
		return err
	}
	cs.poller, err = netpoll.New()
	return err
}

func (cs *conns) close() {
	if cs.poller != nil {
		cs.poller.Close()
	}
	offheap.Free(cs.mine)
	offheap.Free(cs.deadlines.set)
}

// at returns the connection with that descriptor, which is the worker's.
func (cs *conns) at(fd int) conn { return conn{fd, &cs.slots[fd]} }

// find returns a connection that may have ended since, and reports whether it is still there. The
// descriptor may belong to another worker by now, so even the generation in its slot must not be
// read before the descriptor is known to be ours.
func (cs *conns) find(l life) (c conn, ok bool) {
	s := &cs.slots[l.fd]
	return conn{int(l.fd), s}, cs.mine.has(int(l.fd)) && s.gen == l.gen
}

// goOn queues a connection that has more to read or to write but has had its turn.
func (cs *conns) goOn(c conn) {
	if !c.is(queued) {
		c.set(queued)
		cs.queue = append(cs.queue, c.life())
	}
}

// counters returns a copy of what the worker has counted.
func (cs *conns) counters() Counters {
	c := cs.count
	c.Codes = maps.Clone(c.Codes)
	c.Echo = cs.endpoint.Count
	return c
}
