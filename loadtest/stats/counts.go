// Package stats counts the latencies, messages and errors of a load generator's connections. It
// uses neither sockets nor clocks.
package stats

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counts hold the counts of a worker. They have one owner at a time: the worker counts, and hands
// its counts over in exchange for empty ones.
type Counts struct {
	// These fields count from the beginning of the measured time. Before it, Measured is false and
	// only the progress uses them.
	Measured bool
	Latency  *hdrhistogram.Histogram // nanoseconds
	Messages uint64                  // verified
	Bytes    uint64                  // of the payloads of verified messages

	// These fields count from the beginning of the run.
	Handshake *hdrhistogram.Histogram // nanoseconds
	Faults    [Failures]uint64
	Examples  [Failures]string // the detail of the first fault of each kind

	Closes   map[uint16]Closes // by the close code with which the server ended the connection
	Lost     uint64            // messages that were sent but not echoed before their connection ended
	Reopened uint64            // connections

	Open int // connections that are open now
}

// NewCounts returns empty counts.
func NewCounts() *Counts {
	return &Counts{Latency: newHistogram(), Handshake: newHistogram()}
}

// Range and resolution of latencies: three digits, steps of at least 64 ns, up to 10 min.
const (
	LowestLatency  = 100 // nanoseconds
	highestLatency = int64(10 * time.Minute)
	latencyDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(LowestLatency, highestLatency, latencyDigits)
}

// Record records a duration in a histogram the given number of times. A duration outside the
// histogram's range is recorded as the nearest one inside it.
func Record(h *hdrhistogram.Histogram, nanoseconds, times int64) {
	if err := h.RecordValues(max(0, min(nanoseconds, highestLatency)), times); err != nil {
		panic("stats: " + err.Error()) // the value is within the range
	}
}

// AddFault counts a fault the given number of times, and keeps the detail of the first of its kind.
func (c *Counts) AddFault(f *Fault, times uint64) {
	if c.Faults[f.Kind] == 0 {
		c.Examples[f.Kind] = f.Detail
	}
	c.Faults[f.Kind] += times
}

// Keys of Counts.Closes that no close frame carries (RFC 6455, section 7.4.1).
const (
	NoCode       = 1005 // the close frame has no code
	NoCloseFrame = 1006 // TCP ended without a close frame
)

// Closes counts the connections that the server ended with the same code, and the messages lost on
// them.
type Closes struct {
	Connections, Lost uint64
}

// Ended counts the end of a connection and the messages lost on it. The code is the close code with
// which the server ended it, or 0 if the server did not.
func (c *Counts) Ended(code uint16, lost uint64) {
	c.Lost += lost
	if code != 0 {
		c.addCloses(code, Closes{1, lost})
	}
}

func (c *Counts) addCloses(code uint16, more Closes) {
	if c.Closes == nil {
		c.Closes = map[uint16]Closes{}
	}
	sum := c.Closes[code]
	c.Closes[code] = Closes{sum.Connections + more.Connections, sum.Lost + more.Lost}
}

// StartMeasuring begins the measured time: it discards the messages and latencies counted so far.
func (c *Counts) StartMeasuring() {
	c.Latency.Reset()
	c.Messages, c.Bytes = 0, 0
	c.Measured = true
}

// Reset empties the counts.
func (c *Counts) Reset() {
	c.Latency.Reset()
	c.Handshake.Reset()
	*c = Counts{Latency: c.Latency, Handshake: c.Handshake}
}

// Add adds other counts.
func (c *Counts) Add(more *Counts) {
	c.Latency.Merge(more.Latency)
	c.Messages += more.Messages
	c.Bytes += more.Bytes
	c.Open += more.Open
	c.Measured = c.Measured || more.Measured
	c.AddRunCounts(more)
}

// AddRunCounts adds those of the other counts that are of the whole run, not of the measured time.
func (c *Counts) AddRunCounts(more *Counts) {
	c.Handshake.Merge(more.Handshake)
	c.Lost += more.Lost
	c.Reopened += more.Reopened
	for code, closes := range more.Closes {
		c.addCloses(code, closes)
	}
	for kind, n := range more.Faults {
		if c.Faults[kind] == 0 {
			c.Examples[kind] = more.Examples[kind]
		}
		c.Faults[kind] += n
	}
}

// FaultCount returns the number of faults of all kinds.
func (c *Counts) FaultCount() (n uint64) {
	for _, of := range c.Faults {
		n += of
	}
	return n
}
