package pool

import (
	"maps"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
	"wsecho/internal/offheap"
)

// conns holds the connections of one worker; its methods are what the worker does with them. All of
// it belongs to the worker's goroutine, except load.
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
	queue     []life // connections that continue in the next pass: see goOn
	surplus   int    // number of connections that are only to be refused

	_    cpu.CacheLinePad // keeps load, which others write, off the cache lines that the owner reads
	load atomic.Int64     // number of connections that belong to the worker or are on their way to it
}

// open allocates the sets and the poller. After an error the caller must call close.
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

// at returns the connection with the given descriptor, which must belong to the worker.
func (cs *conns) at(fd int) conn { return conn{fd, &cs.slots[fd]} }

// find returns the connection that l identifies, and reports whether it still exists. Its
// descriptor may belong to another worker by now, so not even the generation in its slot may be
// read before the descriptor is known to belong to this one.
func (cs *conns) find(l life) (c conn, ok bool) {
	s := &cs.slots[l.fd]
	return conn{int(l.fd), s}, cs.mine.has(int(l.fd)) && s.gen == l.gen
}

// goOn queues a connection that has had its turn but has more to read or to write.
func (cs *conns) goOn(c conn) {
	if !c.is(queued) {
		c.set(queued)
		cs.queue = append(cs.queue, c.life())
	}
}

// counters returns a copy of the worker's counters.
func (cs *conns) counters() Counters {
	c := cs.count
	c.Codes = maps.Clone(c.Codes)
	c.Echo = cs.endpoint.Count
	return c
}
