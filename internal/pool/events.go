package pool

import (
	"net/netip"
	"time"

	"wsecho/internal/netpoll"
)

// A ConnEvent reports that a worker has taken a connection, or that the connection has ended.
type ConnEvent struct {
	Peer   netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	Worker int
	Ended  bool

	// Of the end:
	Reason   Reason
	Code     int           // what we sent last: the close code, or below 1000 the HTTP status; 0: nothing
	Received uint64        // bytes read
	Sent     uint64        // bytes that the kernel has sent; unknown (0) on a unix socket
	Duration time.Duration // since the worker took it, to about 17 ms
}

// An observer passes a worker's connection events to Config.OnConn.
type observer struct {
	report func(ConnEvent) // nil: no events
	worker int
	peers  map[int32]netip.AddrPort // by descriptor: a connection that was reset has no address any more
}

// opened reports a connection that has come.
func (o *observer) opened(c conn, peer netip.AddrPort) {
	if o.report == nil {
		return
	}
	if o.peers == nil {
		o.peers = map[int32]netip.AddrPort{}
	}
	o.peers[int32(c.fd)] = peer
	o.report(ConnEvent{Peer: peer, Worker: o.worker})
}

// closed reports the end of a connection whose descriptor is still open.
func (o *observer) closed(c conn, why Reason, now tick) {
	if o.report == nil {
		return
	}
	e := ConnEvent{
		Peer: o.peers[int32(c.fd)], Worker: o.worker, Ended: true,
		Reason: why, Code: c.proto.Code(), Received: c.bytes, Duration: now.after(c.opened),
	}
	e.Sent, _ = netpoll.Sent(c.fd)
	delete(o.peers, int32(c.fd))
	o.report(e)
}

// peer returns the address of a connection's peer, from the kernel if it was not kept. The error is
// that of getpeername(2): the peer has reset the connection, and the worker is about to end it.
func (o *observer) peer(c conn) (netip.AddrPort, error) {
	if peer, ok := o.peers[int32(c.fd)]; ok {
		return peer, nil
	}
	return netpoll.Peer(c.fd)
}
