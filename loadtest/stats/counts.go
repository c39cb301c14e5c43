// Package stats counts what the connections of a load generator experience: latencies, messages,
// and errors by kind. It knows neither sockets nor time.
package stats

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counts are what a worker has counted. They have one owner at a time: the worker counts, and
// exchanges its counts for empty ones when it is asked for them.
type Counts struct {
	Measured bool // the measured time has begun; until then, only the progress line uses the counts
	Latency  *hdrhistogram.Histogram
	Messages uint64 // verified
	Bytes    uint64 // of their payloads

	// The other fields count from the beginning of the run.
	Handshake *hdrhistogram.Histogram
	Faults    [Failures]uint64
	Examples  [Failures]string // the detail of the first fault of each kind

	Closes   map[uint16]Closes // by the code with which the server ended the connection
	Lost     uint64            // messages that were sent but not echoed before their connection ended
	Reopened uint64            // connections

	Open int // connections that are open now
}

// NewCounts returns empty counts.
func NewCounts() *Counts {
	return &Counts{Latency: newHistogram(), Handshake: newHistogram()}
}

// Latencies are recorded in nanoseconds, with three digits, in steps of at least 64 ns, and up to
// ten minutes.
const (
	LowestLatency  = 100 // nanoseconds
	highestLatency = int64(10 * time.Minute)
	latencyDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(LowestLatency, highestLatency, latencyDigits)
}

// Record records a duration in a histogram, the given number of times. A duration beyond the
// histogram's range is recorded as the nearest one within it.
func Record(h *hdrhistogram.Histogram, nanoseconds, times int64) {
	if err := h.RecordValues(max(0, min(nanoseconds, highestLatency)), times); err != nil {
		panic("stats: " + err.Error()) // the value is within the range
	}
}

// AddFault counts a fault the given number of times.
func (c *Counts) AddFault(f *Fault, times uint64) {
	if c.Faults[f.Kind] == 0 {
		c.Examples[f.Kind] = f.Detail
	}
	c.Faults[f.Kind] += times
}

// Codes of Closes that no close frame carries (RFC 6455, section 7.4.1).
const (
	NoCode       = 1005 // the close frame has no code
	NoCloseFrame = 1006 // TCP ended without a close frame
)

// Closes counts connections that ended in the same way, and the messages lost on them.
type Closes struct {
	Connections, Lost uint64
}

// Ended counts the end of a connection and the messages lost on it. The code is the one with which
// the server ended it, 0 if the server did not.
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

// StartMeasuring discards the messages and latencies counted so far: the measured time begins.
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
	c.AddLasting(more)
}

// AddLasting adds, of other counts, only what counts from the beginning of the run.
func (c *Counts) AddLasting(more *Counts) {
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
