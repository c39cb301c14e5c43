package generate

import (
	"math"
	"math/bits"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// bufferSize is the maximum number of bytes that one read returns.
const bufferSize = 256 << 10

// conns holds the connections of one worker and handles them once they are open. It belongs to the
// worker's goroutine.
type conns struct {
	*Plan
	share    share
	poller   *netpoll.Poller
	slots    []slot
	now      int64 // when readClock last read the clock
	stopped  int64 // how long the process had been stopped by then
	period   period
	counts   *stats.Counts
	latency  latency
	sendTime sendTimes
	openings openings

	buffer    []byte
	frame     []byte         // of a control frame
	queue     []int          // connections that continue in the next pass: see requeue
	control   map[int][]byte // unsent bytes of control frames, by connection
	responses map[int][]byte // incomplete opening responses, by connection

	live     int   // sockets in use
	open     int   // connections in phase open
	unclosed []int // sockets out of use that close has to close (-leave)
}

// A period holds the times of the run, as the owner of [Workers] has announced them.
type period struct {
	started  bool  // every connection has been opened or has failed to
	rateFrom int64 // when message 0 is due; -1: unknown
	from     int64 // when measuring begins
	until    int64 // when sending ends
	draining bool  // open connections are to be closed
	giveUp   int64 // if draining: when connections that are still open fail
}

// A slot holds the state of a connection, which may be closed.
type slot struct {
	fd             int32
	phase          phase  // see lifecycle.go; only setPhase changes it
	queued         bool   // it continues in the next pass: see requeue
	controlPending bool   // conns.control holds bytes to send
	gotClose       bool   // in closing: the server's close frame has arrived
	writeArmed     bool   // the poller also reports when the socket is writable
	tries          uint8  // openings since a message was last verified: see addAfterFailure
	code           uint16 // the close code with which the server ended the connection; 0: it has not

	rounds uint32 // number of openings
	offset int32  // bytes sent of the message that follows those written

	address     uint8 // index in Target.Addrs of the address that is being connected, or is connected
	failedAddrs uint8 // addresses that have failed in this opening
	greetings   uint8 // greetings that have not arrived yet

	since int64  // when the current wait began: see checkTimeout
	base  uint64 // the connection's first message in the payload set

	// Message counts. done <= written+1, and written <= scheduled.
	scheduled uint64 // to be sent, including those sent
	written   uint64 // sent
	done      uint64 // verified
	due       uint64 // due so far at the fixed rate; in mode Connect: rounds, not messages

	parser wire.Parser
}

// A conn is a connection: its index in the worker's slots, and its slot.
type conn struct {
	index int
	*slot
}

// newConns returns the unopened connections of a worker.
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

// readClock updates now. If the process was stopped meanwhile, latencies of the messages that were
// outstanding are discarded, since they include more than the server's delay.
func (cs *conns) readClock() {
	cs.now = cs.Clock.Now()
	if s := cs.Clock.stoppedFor(); s != cs.stopped {
		cs.stopped = s
		cs.latency.floor = max(cs.latency.floor, cs.now)
	}
}

// requeue has a connection continue in the next pass: it has more to read or to send, but the other
// connections come first.
func (cs *conns) requeue(c conn) {
	if !c.queued {
		c.queued = true
		cs.queue = append(cs.queue, c.index)
	}
}

// outstanding reports whether a scheduled message has no verified reply yet.
func (s *slot) outstanding() bool { return s.done < s.scheduled }

// sent returns the number of messages that have been sent, at least in part.
func (s *slot) sent() uint64 {
	if s.offset > 0 {
		return s.written + 1
	}
	return s.written
}

// sendTimes holds the send times of the outstanding messages, in one ring per connection.
type sendTimes struct {
	times []int64
	size  int // of a ring: the limit of outstanding messages, rounded up to a power of two
}

func newSendTimes(conns, inFlight int) sendTimes {
	size := 1 << bits.Len(uint(inFlight-1))
	return sendTimes{make([]int64, conns*size), size}
}

// of returns the place of the send time of a connection's message n. It is valid while the message
// is outstanding.
func (t *sendTimes) of(c conn, n uint64) *int64 {
	ring := t.times[c.index*t.size:]
	return &ring[n&uint64(t.size-1)]
}
