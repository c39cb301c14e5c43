package pool

import (
	"net/netip"
	"time"

	"wsecho/internal/netpoll"
)

// ConnEvent is that a worker has taken a connection, or that the connection has ended.
type ConnEvent struct {
	Peer   netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	Worker int
	Ended  bool

	// Of the end:
	Reason   Reason
	Code     int           // what we said last: the close code, or below 1000 the HTTP status; 0: nothing
	Received uint64        // bytes read
	Sent     uint64        // bytes that the kernel has sent; on a unix socket it is not known
	Duration time.Duration // since the worker took it, to some 17 ms
}

// tellOpened tells OnConn that a connection has come. The peer's address is kept for the end of the
// connection: a connection that was reset, even one that the worker has yet to see, has none any more.
func (w *worker) tellOpened(fd int, peer netip.AddrPort) {
	if w.pool.cfg.OnConn == nil {
		return
	}
	if w.peers == nil {
		w.peers = map[int32]netip.AddrPort{}
	}
	w.peers[int32(fd)] = peer
	w.pool.cfg.OnConn(ConnEvent{Peer: peer, Worker: w.index})
}

// tellClosed tells the same that it has ended. Its descriptor is still open.
func (w *worker) tellClosed(fd int, s *slot, why Reason) {
	if w.pool.cfg.OnConn == nil {
		return
	}
	e := ConnEvent{
		Peer: w.peers[int32(fd)], Worker: w.index, Ended: true,
		Reason: why, Code: s.proto.Code(), Received: s.bytes, Duration: time.Duration(w.now-s.opened) * tickTime,
	}
	e.Sent, _ = netpoll.Sent(fd)
	delete(w.peers, int32(fd))
	w.pool.cfg.OnConn(e)
}
