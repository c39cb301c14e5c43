package generate

import (
	"math"
	"math/bits"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// bufferSize is the most bytes that one read takes.
const bufferSize = 256 << 10

// conns are the connections of one worker, and what the worker does with them once they are open.
// All of it belongs to the worker's goroutine.
type conns struct {
	*Plan
	share    share
	poller   *netpoll.Poller
	slots    []slot
	now      int64 // when look last read the clock
	stopped  int64 // for how long the process had been stopped by then
	period   period
	counts   *stats.Counts
	latency  latency
	sendTime sendTimes
	openings openings

	buffer    []byte
	frame     []byte         // of a control frame
	queue     []int          // indexes of connections that continue in the next pass: see goOn
	control   map[int][]byte // control frames that are still to be sent
	responses map[int][]byte // that have not arrived whole

	live int   // sockets in use
	open int   // connections that are open
	left []int // sockets that are no longer in use but still have to be closed (-leave)
}

// A period is how far the run has come: what the generator has told the worker.
type period struct {
	started  bool  // every connection has been opened or has failed to
	rateFrom int64 // when message 0 is due; -1: not known yet
	from     int64 // when measuring begins
	until    int64 // from then on nothing is sent
	winding  bool  // the connections that are open are to be closed
	giveUp   int64 // if winding: from then on, connections that are still open have failed
}

// A slot holds everything about a connection, or is the place for one.
type slot struct {
	fd         int32
	phase      phase  // see lifecycle.go; changed by setPhase only
	queued     bool   // it continues in the next pass: see goOn
	speaks     bool   // a control frame is to be sent: conns.control has it
	gotClose   bool   // in closing: the server's close frame has come
	awaitsRoom bool   // the poller also watches for room to write
	tries      uint8  // openings since a message was last verified: see openAgain
	code       uint16 // with which the server has ended the connection; 0: it has not

	rounds uint32 // how often the connection was opened
	offset int32  // bytes sent of the message after those written

	address   uint8 // index in Target.Addrs of the address that is being tried, or is connected
	refusals  uint8 // addresses that could not be connected in this attempt
	greetings uint8 // messages that the server is still to send before the first echo

	since int64  // when the connection began to wait for what it waits for
	base  uint64 // where in the payload set the connection begins

	// Numbers of messages, in the order of sending. done <= written+1, and written <= asked.
	asked   uint64 // have been due, and may be sent
	written uint64 // have been sent
	done    uint64 // have been verified
	due     uint64 // at a fixed rate: have been due. In mode Connect: rounds, not messages

	parser wire.Parser
}

// A conn is a connection: its index among the worker's, and its slot.
type conn struct {
	index int
	*slot
}

// newConns allocates what the connections of a worker need.
func newConns(p *Plan, worker int, poller *netpoll.Poller) conns {
	slots := slotsOf(worker, p.Workers, p.Connections)
	cs := conns{
		Plan:      p,
		share:     share{uint64(worker), uint64(p.Workers), uint64(p.Connections)},
		poller:    poller,
		slots:     make([]slot, slots),
		stopped:   p.Clock.stoppedFor(),
		period:    period{rateFrom: -1, from: math.MaxInt64, until: math.MaxInt64},
		counts:    stats.NewCounts(),
		sendTime:  newSendTimes(slots, p.InFlight),
		openings:  openings{unsettled: slots, settled: make(chan struct{})},
		buffer:    make([]byte, bufferSize),
		control:   map[int][]byte{},
		responses: map[int][]byte{},
	}
	cs.counts.Measured = p.Mode == Idle
	return cs
}

// at returns the connection with that index.
func (cs *conns) at(index int) conn { return conn{index, &cs.slots[index]} }

// look reads the clock. Messages that were under way while the process was stopped are late by more
// than the server's doing, so their latency does not count.
func (cs *conns) look() {
	cs.now = cs.Clock.Now()
	if s := cs.Clock.stoppedFor(); s != cs.stopped {
		cs.stopped = s
		cs.latency.floor = max(cs.latency.floor, cs.now)
	}
}

// goOn queues a connection that has more to read or to send but has had its turn.
func (cs *conns) goOn(c conn) {
	if !c.queued {
		c.queued = true
		cs.queue = append(cs.queue, c.index)
	}
}

// outstanding reports whether a message has been asked for whose reply has not come.
func (s *slot) outstanding() bool { return s.done < s.asked }

// sent returns the number of messages that have been sent, or begun.
func (s *slot) sent() uint64 {
	if s.offset > 0 {
		return s.written + 1
	}
	return s.written
}

// sendTimes are when the outstanding messages of each connection were sent: a ring for each.
type sendTimes struct {
	times []int64
	size  int // of a ring: the most messages in flight, or the next power of two
}

func newSendTimes(conns, inFlight int) sendTimes {
	size := 1 << bits.Len(uint(inFlight-1))
	return sendTimes{make([]int64, conns*size), size}
}

// of returns where the time of a connection's message n is kept while the message is outstanding.
func (t *sendTimes) of(c conn, n uint64) *int64 {
	ring := t.times[c.index*t.size:]
	return &ring[n&uint64(t.size-1)]
}
