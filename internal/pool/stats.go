package pool

import (
	"sync"

	"wsecho/internal/echo"
)

// Counters holds the counters of one worker, or their sum over all workers. A worker's counters
// belong to its goroutine.
type Counters struct {
	Accepted         uint64 // connections accepted from the listeners
	Adopted          uint64 // connections passed to Adopt
	Upgraded         uint64 // requests answered with 101
	RefusedFull      uint64 // 503: MaxConns was reached
	RefusedPerIP     uint64 // 503: MaxConnsPerIP was reached
	RefusedExhausted uint64 // 503: out of descriptors
	RefusedDraining  uint64 // 503: accepted while the pool was shutting down
	RefusedAtOnce    uint64 // those refused without a slot, and so closed without waiting for the peer's FIN
	Exhausted        uint64 // times that accept4 failed for lack of descriptors or memory
	AcceptErrors     uint64 // other accept4 errors
	Ended            [numReasons]uint64
	Codes            map[int]uint64 // ended connections by what we sent last: a close code, or an HTTP status if below 1000
	IdleTimeouts     uint64         // connections closed because of IdleTimeout

	BytesIn, BytesOut uint64 // bytes read from and written to sockets
	BytesDiscarded    uint64 // bytes read after our side was shut down; not part of BytesIn

	Wakeups, Events, StaleEvents uint64 // see loop.go
	EmptyReads                   uint64 // reads that returned no data
	Backlogs                     uint64 // turns that ended with a write backlog
	LowMemoryTurns               uint64 // see lowmemory.go

	Echo echo.Counters
}

func (c *Counters) init() { c.Codes = map[int]uint64{} }

// add adds the counters of d.
func (c *Counters) add(d *Counters) {
	c.Accepted += d.Accepted
	c.Adopted += d.Adopted
	c.Upgraded += d.Upgraded
	c.RefusedFull += d.RefusedFull
	c.RefusedPerIP += d.RefusedPerIP
	c.RefusedExhausted += d.RefusedExhausted
	c.RefusedDraining += d.RefusedDraining
	c.RefusedAtOnce += d.RefusedAtOnce
	c.Exhausted += d.Exhausted
	c.AcceptErrors += d.AcceptErrors
	for i := range c.Ended {
		c.Ended[i] += d.Ended[i]
	}
	for code, n := range d.Codes {
		c.Codes[code] += n
	}
	c.IdleTimeouts += d.IdleTimeouts
	c.BytesIn += d.BytesIn
	c.BytesOut += d.BytesOut
	c.BytesDiscarded += d.BytesDiscarded
	c.Wakeups += d.Wakeups
	c.Events += d.Events
	c.StaleEvents += d.StaleEvents
	c.EmptyReads += d.EmptyReads
	c.Backlogs += d.Backlogs
	c.LowMemoryTurns += d.LowMemoryTurns
	c.Echo.Add(&d.Echo)
}

// otherCounters holds the counters of events outside the workers.
type otherCounters struct {
	mu    sync.Mutex // protects count
	count Counters
}

func (o *otherCounters) addTo(sum *Counters) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum.add(&o.count)
}
