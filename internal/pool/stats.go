package pool

import (
	"sync"

	"wsecho/internal/echo"
)

// Counters are what one worker has counted, or the sum over all. A worker's own belong to its
// goroutine.
type Counters struct {
	Accepted         uint64 // from the listeners
	Adopted          uint64 // from Adopt
	Upgraded         uint64 // requests answered with 101
	RefusedFull      uint64 // 503: more than MaxConns
	RefusedPerIP     uint64 // 503: more than MaxConnsPerIP from there
	RefusedExhausted uint64 // 503: no descriptor was left
	RefusedDraining  uint64 // 503: accepted while the pool was shutting down
	RefusedAtOnce    uint64 // of the refused: without a slot, and so without waiting for the peer's end
	Exhausted        uint64 // times that accept found no descriptor
	AcceptErrors     uint64 // other errors of accept4
	Ended            [numReasons]uint64
	Codes            map[int]uint64 // connections that ended, by what we sent last: the close code, or below 1000 the HTTP status
	IdleTimeouts     uint64

	BytesIn, BytesOut uint64 // over sockets
	BytesDiscarded    uint64 // of BytesIn none: read after our side was ended

	Wakeups, Events, StaleEvents uint64
	EmptyReads                   uint64
	Backlogs                     uint64 // times that the kernel took less than all
	LowMemoryTurns               uint64

	Echo echo.Counters
}

func (c *Counters) init() { c.Codes = map[int]uint64{} }

// add adds all that d has counted.
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

// otherCounters count what happens outside the workers.
type otherCounters struct {
	mu    sync.Mutex // protects count
	count Counters
}

func (o *otherCounters) addTo(sum *Counters) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum.add(&o.count)
}
