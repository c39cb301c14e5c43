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

// An opener opens a worker's connections: it connects TCP and performs the opening handshake.
type opener struct {
	cs    *conns
	alarm *alarm

	ramped     int              // connections whose first opening has been due
	preferred  uint8            // index in Target.Addrs of the address that openings try first
	addrErrors map[int][]string // by connection: the errors of the addresses tried so far
	request    []byte
}

// rampUp adds the connections whose first opening is due (-ramp) to those to be opened.
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

// busy reports whether the limit of outstanding handshakes is reached. More could overflow the
// server's listen queue, and delay connections by 1 s or more.
func (o *opener) busy() bool { return o.cs.openings.handshakes >= o.cs.Handshakes }

// open opens connections until the limit of outstanding handshakes is reached. After the end of
// sending it opens only those with a backlog.
func (o *opener) open() {
	cs := o.cs
	n := 0
	for ; n < len(cs.openings.ready) && !o.busy(); n++ {
		if c := cs.at(cs.openings.ready[n]); cs.now < cs.period.until || cs.backlog(c) > 0 {
			o.connect(c)
		}
	}
	cs.openings.ready = cs.openings.ready[:copy(cs.openings.ready, cs.openings.ready[n:])]
}

// connect resets a connection's slot and opens the connection.
func (o *opener) connect(c conn) {
	cs := o.cs
	cs.readClock()
	number := cs.share.number(c.index, uint64(c.rounds))
	*c.slot = slot{fd: -1, base: number, rounds: c.rounds + 1, tries: c.tries,
		scheduled: c.scheduled, written: c.written, done: c.done, due: c.due,
		address: o.preferred, greetings: cs.Greetings}
	o.dial(c)
}

// dial starts connecting a socket to the connection's current address. If the server is on this
// host, TCP is connected when connect(2) returns, and the request is sent without waiting for an
// event.
func (o *opener) dial(c conn) {
	cs := o.cs
	var source netip.Addr
	if len(cs.Sources) > 0 {
		source = cs.Sources[c.base%uint64(len(cs.Sources))]
	}
	c.since = cs.now
	fd, err := netpoll.Connect(cs.Target.Addrs[c.address], source)
	if err != nil {
		o.addressFailed(c, connectFault(err))
		return
	}
	c.fd = int32(fd)
	cs.live++
	cs.setPhase(c, connecting)
	if !o.sendRequest(c) {
		return
	}
	interest := netpoll.Read
	if c.writeArmed = c.phase == connecting; c.writeArmed { // the event means: connected, or failed
		interest = netpoll.ReadWrite
	}
	if err := cs.poller.Add(fd, uint32(c.index), interest); err != nil {
		cs.fail(c, connectFault(err))
	}
}

func connectFault(err error) *stats.Fault {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return stats.Faultf(stats.ConnectFailed, "%v: no local port is free (-source adds addresses), or -source is not an address of this host", err)
	}
	return stats.Faultf(stats.ConnectFailed, "%v", err)
}

// addressFailed continues with the next address of the server's name. If all have failed, the
// connection has failed. If the address was the preferred one, later openings begin with the next.
func (o *opener) addressFailed(c conn, f *stats.Fault) {
	cs := o.cs
	n := len(cs.Target.Addrs)
	f.Detail = fmt.Sprintf("%v: %s", cs.Target.Addrs[c.address], f.Detail)
	if n == 1 {
		cs.fail(c, f)
		return
	}
	o.addrErrors[c.index] = append(o.addrErrors[c.index], f.Detail)
	next := uint8((int(c.address) + 1) % n)
	if c.address == o.preferred {
		o.preferred = next
	}
	if c.failedAddrs++; int(c.failedAddrs) == n {
		f.Detail = strings.Join(o.addrErrors[c.index], "; ")
		delete(o.addrErrors, c.index)
		cs.fail(c, f)
		return
	}
	if c.fd >= 0 {
		cs.release(c)
	}
	c.address = next
	o.dial(c)
}

// connected handles the result of connect(2): it sends the opening request or tries the next
// address.
func (o *opener) connected(c conn, ended bool) {
	if ended {
		if err := netpoll.ConnectError(int(c.fd)); err != nil {
			o.addressFailed(c, connectFault(err))
			return
		}
	}
	o.sendRequest(c)
}

// sendRequest sends the opening request if TCP is connected. It reports whether the socket is still
// in use. If it is not, the connection has failed or another address is being tried.
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
		o.addressFailed(c, connectFault(err))
	case n < len(o.request): // an empty socket buffer takes LongestRequest
		cs.fail(c, stats.Faultf(stats.HandshakeFailed, "request: %v", unix.ENOBUFS))
	default:
		delete(o.addrErrors, c.index)
		cs.setPhase(c, handshaking)
		return true
	}
	return false
}

// receive reads once from a connection in phase handshaking. Ended reports that TCP is known to
// have ended.
func (o *opener) receive(c conn, ended bool) {
	cs := o.cs
	n, err := netpoll.Recv(int(c.fd), cs.buffer)
	cs.readClock()
	if err != nil {
		cs.lost(c, err)
		return
	}
	if n == len(cs.buffer) || n > 0 && ended {
		cs.requeue(c)
	}
	if n > 0 {
		o.readResponse(c, cs.buffer[:n])
	}
}

// readResponse handles the next bytes of the opening response.
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
	*cs.sendTime.of(c, c.scheduled) = c.since // for begin: nothing is outstanding
	c.since = cs.now
	if c.greetings > 0 {
		cs.setPhase(c, greeting)
		cs.read(c, rest)
		return
	}
	cs.setPhase(c, open)
	if cs.read(c, rest); c.phase == open { // any bytes after the response are a fault
		cs.begin(c)
	}
}

// expire ends a connection that has exceeded its timeout. While it is connecting, the timeout is
// divided evenly among the addresses.
func (o *opener) expire(c conn) {
	cs := o.cs
	if c.phase == connecting {
		if f := c.checkTimeout(cs.now, int64(cs.Timeout)/int64(len(cs.Target.Addrs))); f != nil {
			o.addressFailed(c, f)
		}
		return
	}
	if f := c.checkTimeout(cs.now, int64(cs.Timeout)); f != nil {
		cs.fail(c, f)
	}
}
