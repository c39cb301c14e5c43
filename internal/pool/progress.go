package pool

import (
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// progress decides whether a peer that is slow to read still makes progress. Progress is what the
// peer has acknowledged, which the kernel knows. That the kernel takes more of a backlog is progress
// too, but too coarse a measure: EPOLLOUT comes when a third of a send buffer of megabytes is free,
// which takes a peer that reads 32 KiB per second longer than WriteTimeout.
//
// A connection whose output waits for its peer is examined 16 times within WriteTimeout. The
// unacknowledged bytes are compared with a mark: their number when the peer last made progress. If at
// least minRate was acknowledged since then, that is progress, and WriteTimeout begins again. A peer that
// acknowledges less is treated like one that reads nothing.
//
// Bytes that are paid for in advance lengthen the next wait, to at most twice WriteTimeout. A receiver
// opens its window in steps of a segment or a sixteenth of its buffer: with loopback's segments of
// 64 KiB, a peer that reads 4 KiB per second is silent for 32 s between two steps.
//
// The first examination comes a sixteenth of WriteTimeout after the output began to wait, or 0.3 s if
// that is longer, and only sets the mark. By then the peer has acknowledged what it acknowledges without
// reading, because its receive buffer has room. The last of that comes after 0.2 s: a segment that does
// not fit the window waits for the timer of window probes before it is split.
type progress struct {
	// marks is indexed by descriptor, like the slots. Its pages too are untouched until used: few
	// peers are slow. A mark is valid if its slot has the flag marked.
	marks        []mark
	writeTimeout tick
}

// minRate is the rate, in bytes per second, at which a peer certainly makes progress. At half of it
// the peer certainly does not; in between it depends on when the peer is examined.
const minRate = 256

// A mark is what a connection's peer had left unacknowledged at some time.
type mark struct {
	unacked  uint32 // bytes, at the time of the mark
	at       tick   // time of the mark
	progress tick   // when the peer last made progress, or its output began to wait
	credit   tick   // what the peer has paid for in advance
	left     uint32 // bytes unacknowledged when last examined
	looked   tick   // time of the last examination
}

// firstLook returns how long output waits before its peer is examined.
func firstLook(limit tick) tick {
	return max(1, min(limit/2, max(nextLook(limit), ticks(300*time.Millisecond))))
}

// nextLook returns the time between two examinations.
func nextLook(limit tick) tick { return limit / 16 }

// delivers reports whether the connection's timeout depends on what its peer takes of the output.
// There is a backlog, or the close frame, FIN or ping that the timeout waits for an answer to may be
// behind output that the peer has not taken yet.
func (p progress) delivers(c conn) bool {
	if c.proto.Phase() == echo.Open && !waitsForRoom(c) {
		return c.is(pinged) && c.is(marked) && p.marks[c.fd].unacked > 0
	}
	return activities[c.activity].delivers
}

// waitsForRoom reports whether the connection waits until the kernel has room for more output.
func waitsForRoom(c conn) bool { return activities[c.activity].timeout == timeoutWrite }

// outstanding returns how long a connection that delivers has waited, and how long it may, given the
// limit that applies otherwise; and whether the peer has yet to take what it was sent. It examines the
// peer if that is due, or if the connection would be given up otherwise.
func (p progress) outstanding(c conn, now, limit tick) (waited, patience tick, unread bool) {
	m := &p.marks[c.fd]
	asOfLastLook := func() (tick, tick, bool) {
		waited := now - c.since
		if !waitsForRoom(c) && (waited < limit || m.left == 0) {
			return waited, limit, false
		}
		return now - m.progress, p.writeTimeout + m.credit, true
	}
	if c.is(marked) && now-m.looked < nextLook(limit) {
		if waited, patience, unread = asOfLastLook(); waited < patience {
			return waited, patience, unread
		}
	}
	prolonged := c.is(marked) && m.left > 0 && m.looked-c.since >= limit
	p.look(c, now)
	if prolonged && m.left == 0 && !waitsForRoom(c) {
		c.since = now // what the timeout waits for can only come from now on
	}
	return asOfLastLook()
}

// look compares what the peer has left unacknowledged with the mark.
func (p progress) look(c conn, now tick) {
	m := &p.marks[c.fd]
	m.looked = now
	m.left = netpoll.Unacknowledged(c.fd)
	if c.is(shut) && m.left > 0 {
		m.left-- // the FIN is not output
	}
	if !c.is(marked) {
		c.set(marked)
		m.unacked, m.at, m.progress, m.credit = m.left, now, c.since, 0
		return
	}
	if m.left > m.unacked { // more was sent since
		m.unacked, m.at = m.left, now
		return
	}
	acked := m.unacked - m.left
	paid := ticks(time.Duration(acked) * time.Second / (minRate / 2))
	elapsed := now - m.at
	if acked == 0 || paid < elapsed {
		return
	}
	m.unacked, m.at, m.progress = m.left, now, now
	m.credit = min(paid-elapsed, p.writeTimeout)
	if waitsForRoom(c) {
		c.since = now
	}
}
