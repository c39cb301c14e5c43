package generate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// An opener opens a worker's connections: TCP, and the opening handshake.
type opener struct {
	cs    *conns
	alarm *alarm

	ramped    int              // connections whose time to be opened has come
	preferred uint8            // index in Target.Addrs of the address that new connections begin with
	refusals  map[int][]string // by connection: why the addresses tried so far were not connected
	request   []byte
}

// rampUp adds the connections whose time has come to those to be opened.
func (o *opener) rampUp() {
	cs := o.cs
	for o.ramped < len(cs.slots) && cs.now < cs.period.until {
		at := int64(cs.Ramp.at(cs.share.number(o.ramped, 0)))
		if at > cs.now {
			o.alarm.wakeAt(at, cs.now)
			return
		}
		if cs.Mode != Connect || !cs.Paced() {
			cs.openings.add(cs.at(o.ramped))
		}
		o.ramped++
	}
}

// busy reports whether as many handshakes are outstanding as may be. More would overflow the
// server's listen queue, and make clients wait for a second or longer.
func (o *opener) busy() bool { return o.cs.openings.handshakes >= o.cs.Handshakes }

// open opens connections until it is busy. After the time is over it opens only those that still
// owe messages.
func (o *opener) open() {
	cs := o.cs
	n := 0
	for ; n < len(cs.openings.ready) && !o.busy(); n++ {
		if c := cs.at(cs.openings.ready[n]); cs.now < cs.period.until || cs.owed(c) > 0 {
			o.connect(c)
		}
	}
	cs.openings.ready = cs.openings.ready[:copy(cs.openings.ready, cs.openings.ready[n:])]
}

// connect begins a new life of a connection.
func (o *opener) connect(c conn) {
	cs := o.cs
	cs.look()
	number := cs.share.number(c.index, uint64(c.rounds))
	*c.slot = slot{fd: -1, base: number, rounds: c.rounds + 1, tries: c.tries,
		asked: c.asked, written: c.written, done: c.done, due: c.due,
		address: o.preferred, greetings: cs.Greetings}
	o.dial(c)
}

// dial begins to connect a socket to the connection's address. To a server on this host TCP is
// connected when connect(2) returns, so the request can leave at once, without an event.
func (o *opener) dial(c conn) {
	cs := o.cs
	var source netip.Addr
	if len(cs.Sources) > 0 {
		source = cs.Sources[c.base%uint64(len(cs.Sources))]
	}
	c.since = cs.now
	fd, err := netpoll.Connect(cs.Target.Addrs[c.address], source)
	if err != nil {
		o.refused(c, connectFault(err))
		return
	}
	c.fd = int32(fd)
	cs.live++
	cs.setPhase(c, connecting)
	if !o.sendRequest(c) {
		return
	}
	interest := netpoll.Read
	if c.awaitsRoom = c.phase == connecting; c.awaitsRoom { // there is an event when it is connected
		interest = netpoll.ReadWrite
	}
	if err := cs.poller.Add(fd, uint32(c.index), interest); err != nil {
		cs.fail(c, connectFault(err))
	}
}

func connectFault(err error) *stats.Fault {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return stats.Faultf(stats.ConnectFailed, "%v: no local port is left, or -source is not an address of this host", err)
	}
	return stats.Faultf(stats.ConnectFailed, "%v", err)
}

// refused continues with the next address of the server's name after one could not be connected.
// When none is left, the connection has failed. Connections that are opened later begin with the
// address that was reached last.
func (o *opener) refused(c conn, f *stats.Fault) {
	cs := o.cs
	n := len(cs.Target.Addrs)
	if n == 1 {
		cs.fail(c, f)
		return
	}
	o.refusals[c.index] = append(o.refusals[c.index], fmt.Sprintf("%v: %s", cs.Target.Addrs[c.address], f.Detail))
	next := uint8((int(c.address) + 1) % n)
	if c.address == o.preferred {
		o.preferred = next
	}
	if c.refusals++; int(c.refusals) == n {
		f.Detail = strings.Join(o.refusals[c.index], "; ")
		delete(o.refusals, c.index)
		cs.fail(c, f)
		return
	}
	if c.fd >= 0 {
		cs.release(c)
	}
	c.address = next
	o.dial(c)
}

// connected sends the request when TCP is connected, or finds out why it is not.
func (o *opener) connected(c conn, ended bool) {
	if ended {
		if err := netpoll.ConnectError(int(c.fd)); err != nil {
			o.refused(c, connectFault(err))
			return
		}
	}
	o.sendRequest(c)
}

// sendRequest sends the opening request if TCP is connected. It reports whether the socket is still
// in use; if not, the connection has failed or another address is being connected.
func (o *opener) sendRequest(c conn) bool {
	cs := o.cs
	o.request = wire.AppendRequest(o.request[:0], cs.RequestHead, c.base)
	n, err := netpoll.Send(int(c.fd), o.request)
	switch {
	case err == nil && n == 0:
		return true
	case err == unix.ECONNRESET, err == unix.EPIPE: // TCP had been connected
		cs.fail(c, stats.Faultf(stats.HandshakeFailed, "request: %v", err))
	case err != nil:
		o.refused(c, connectFault(err))
	case n < len(o.request): // an empty socket takes LongestRequest
		cs.fail(c, stats.Faultf(stats.HandshakeFailed, "request: %v", unix.ENOBUFS))
	default:
		delete(o.refusals, c.index)
		cs.setPhase(c, handshaking)
		return true
	}
	return false
}

// receive reads from a connection whose response is awaited, once. Ended is whether TCP is known to
// have ended.
func (o *opener) receive(c conn, ended bool) {
	cs := o.cs
	n, err := netpoll.Recv(int(c.fd), cs.buffer)
	cs.look()
	if err != nil {
		cs.lost(c, err)
		return
	}
	if n == len(cs.buffer) || n > 0 && ended {
		cs.goOn(c)
	}
	if n > 0 {
		o.readResponse(c, cs.buffer[:n])
	}
}

// readResponse takes what has arrived of the response.
func (o *opener) readResponse(c conn, p []byte) {
	cs := o.cs
	if begun := cs.responses[c.index]; begun != nil {
		p = append(begun, p...)
		delete(cs.responses, c.index)
	}
	response, rest, whole := wire.CutResponse(p)
	switch {
	case len(p)-len(rest) > wire.LongestResponse || !whole && len(p) > wire.LongestResponse:
		cs.fail(c, stats.Faultf(stats.HandshakeFailed, "no end of the response in %d bytes", wire.LongestResponse))
		return
	case !whole:
		cs.responses[c.index] = append([]byte(nil), p...)
		return
	}
	if err := wire.CheckResponse(response, c.base, cs.Subprotocols...); err != nil {
		cs.fail(c, err.(*stats.Fault))
		return
	}
	stats.Record(cs.counts.Handshake, cs.now-c.since, 1)
	*cs.sendTime.of(c, c.asked) = c.since // for begin: nothing is outstanding
	c.since = cs.now
	if c.greetings > 0 {
		cs.setPhase(c, greeting)
		cs.read(c, rest)
		return
	}
	cs.setPhase(c, open)
	if cs.read(c, rest); c.phase == open { // bytes after the response were not asked for
		cs.begin(c)
	}
}

// expire counts a connection that has waited too long as failed. No address takes the time of the
// others.
func (o *opener) expire(c conn) {
	cs := o.cs
	if c.phase == connecting {
		if f := c.late(cs.now, int64(cs.Timeout)/int64(len(cs.Target.Addrs))); f != nil {
			o.refused(c, f)
		}
		return
	}
	if f := c.late(cs.now, int64(cs.Timeout)); f != nil {
		cs.fail(c, f)
	}
}
