package pool

import (
	"net/netip"
	"time"

	"wsecho/internal/netpoll"
)

// A ConnEvent reports that a worker has taken a connection, or that the connection has ended.
type ConnEvent struct {
	Peer   netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	Worker int            // index
	Ended  bool

	// Valid if Ended is true:
	Reason   Reason
	Code     int           // what we sent last: a close code, or an HTTP status if below 1000; 0: neither
	Received uint64        // bytes read
	Sent     uint64        // bytes that the kernel has sent; 0 on a unix socket, where that is unknown
	Duration time.Duration // since the worker took it; resolution about 17 ms
}

// An observer passes a worker's connection events to Config.OnConn.
type observer struct {
	report func(ConnEvent) // nil: no events
	worker int
	peers  map[int32]netip.AddrPort // by descriptor; after a reset the kernel no longer knows the address
}

// opened reports a new connection.
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

// peer returns the address of a connection's peer, from the kernel if the observer does not have
// it. The error is that of getpeername(2): the peer has reset the connection, and the worker is
// about to end it.
func (o *observer) peer(c conn) (netip.AddrPort, error) {
	if peer, ok := o.peers[int32(c.fd)]; ok {
		return peer, nil
	}
	return netpoll.Peer(c.fd)
}
