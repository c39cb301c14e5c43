package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// stats is what a worker has counted. It has one owner at a time: the worker fills
// it, and gives it to the generator for an empty one when it is asked to.
type stats struct {
	measured bool // since the measured time began; if not, it is only good for a look
	latency  *hdrhistogram.Histogram
	messages uint64 // verified
	bytes    uint64 // of their payloads

	// These count from the very beginning.
	handshake *hdrhistogram.Histogram
	faults    [failures]uint64
	examples  [failures]string // the first of each kind

	closes   map[uint16]closes // by the code with which the server ended them
	lost     uint64            // messages that were sent and not echoed when their connections were over
	reopened uint64            // connections

	open int // connections at the moment
}

func newStats() *stats {
	return &stats{latency: newHistogram(), handshake: newHistogram()}
}

// Latencies are recorded in nanoseconds: to three digits, in steps of 64 ns at the
// least, and up to ten minutes.
const (
	latencyLowest  = 100
	latencyHighest = int64(10 * time.Minute)
	latencyDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(latencyLowest, latencyHighest, latencyDigits)
}

// record notes a time in a histogram, so many times.
func record(h *hdrhistogram.Histogram, nanoseconds, times int64) {
	if err := h.RecordValues(max(0, min(nanoseconds, latencyHighest)), times); err != nil {
		panic("wsload: " + err.Error()) // it has been made to fit
	}
}

func (s *stats) fault(f *fault) {
	if s.faults[f.kind] == 0 {
		s.examples[f.kind] = f.detail
	}
	s.faults[f.kind]++
}

// closes is how often connections were ended in one way.
type closes struct {
	connections, lost uint64
}

// ended notes the end of a connection, with messages that are lost. Code is 0 if it was not the
// server that ended it.
func (s *stats) ended(code uint16, lost uint64) {
	s.lost += lost
	if code != 0 {
		s.addCloses(code, closes{1, lost})
	}
}

func (s *stats) addCloses(code uint16, more closes) {
	if s.closes == nil {
		s.closes = map[uint16]closes{}
	}
	sum := s.closes[code]
	s.closes[code] = closes{sum.connections + more.connections, sum.lost + more.lost}
}

// startMeasuring forgets the messages so far.
func (s *stats) startMeasuring() {
	s.latency.Reset()
	s.messages, s.bytes = 0, 0
	s.measured = true
}

// reset makes it an empty one.
func (s *stats) reset() {
	s.latency.Reset()
	s.handshake.Reset()
	*s = stats{latency: s.latency, handshake: s.handshake}
}

// add adds what another one has counted.
func (s *stats) add(more *stats) {
	s.latency.Merge(more.latency)
	s.messages += more.messages
	s.bytes += more.bytes
	s.open += more.open
	s.measured = s.measured || more.measured
	s.addLasting(more)
}

// addLasting adds only what counts from the very beginning.
func (s *stats) addLasting(more *stats) {
	s.handshake.Merge(more.handshake)
	s.lost += more.lost
	s.reopened += more.reopened
	for code, c := range more.closes {
		s.addCloses(code, c)
	}
	for kind, n := range more.faults {
		if s.faults[kind] == 0 {
			s.examples[kind] = more.examples[kind]
		}
		s.faults[kind] += n
	}
}

func (s *stats) faultCount() (n uint64) {
	for _, of := range s.faults {
		n += of
	}
	return n
}
