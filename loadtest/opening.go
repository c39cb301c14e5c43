package main

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// rampUp puts connections whose time has come in the queue of those to be opened.
func (w *worker) rampUp() {
	for w.ramped < len(w.conns) && w.now < w.until {
		at := int64(w.ramp.at(w.share.number(w.ramped, 0)))
		if at > w.now {
			w.wakeAt(at)
			return
		}
		if w.mode != modeConnect || !w.paced() {
			w.ready = append(w.ready, w.ramped)
		}
		w.ramped++
	}
}

// openReady opens connections, as long as few enough handshakes are outstanding. A listen queue
// that overflows makes clients wait for a second and more.
func (w *worker) openReady() {
	n := 0
	for n < len(w.ready) && w.opening < w.handshakes && w.now < w.until {
		slot := w.ready[n]
		w.connect(slot, &w.conns[slot])
		n++
	}
	w.ready = w.ready[:copy(w.ready, w.ready[n:])]
}

// connect opens a socket and begins to connect it.
func (w *worker) connect(slot int, c *conn) {
	w.now = w.clock()
	number := w.share.number(slot, c.rounds)
	*c = conn{fd: -1, since: w.now, base: number, rounds: c.rounds + 1, due: c.due}
	var source netip.Addr
	if len(w.sources) > 0 {
		source = w.sources[number%uint64(len(w.sources))]
	}
	fd, err := dial(w.target.addr, source)
	if err == nil {
		if err = w.poller.Add(fd, uint32(slot), netpoll.ReadWrite); err != nil {
			netpoll.Close(fd)
		}
	}
	if err != nil {
		w.fail(slot, c, connectFault(err))
		return
	}
	c.fd = int32(fd)
	w.live++
	w.setPhase(c, connecting)
}

// dial begins to connect a socket, without waiting for it.
func dial(to netip.AddrPort, from netip.Addr) (fd int, err error) {
	family, remote := sockaddr(to)
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil && from.IsValid() {
		err = bind(fd, from)
	}
	if err == nil {
		err = unix.Connect(fd, remote)
	}
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR { // connect(2): it goes on in both cases
		netpoll.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bind chooses the local address, and leaves the port until the remote address is known too: so
// that a port may be used once for every remote address.
func bind(fd int, from netip.Addr) error {
	_, local := sockaddr(netip.AddrPortFrom(from, 0))
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	return unix.Bind(fd, local)
}

func connectFault(err error) *fault {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return faultf(connectFailed, "%v: no local port is left, or -source is not an address of this host", err)
	}
	return faultf(connectFailed, "%v", err)
}

// connected sends the request when TCP is connected, or finds out why it is not.
func (w *worker) connected(slot int, c *conn) {
	errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		w.fail(slot, c, connectFault(err))
		return
	}
	w.setPhase(c, handshaking)
	w.request = appendRequest(w.request[:0], w.target.host, w.target.path, c.base)
	n, err := netpoll.Send(int(c.fd), w.request)
	if err == nil && n < len(w.request) {
		err = unix.ENOBUFS // an empty socket takes so little
	}
	if err != nil {
		w.fail(slot, c, faultf(handshakeFailed, "request: %v", err))
	}
}

// readResponse takes what has arrived of the response.
func (w *worker) readResponse(slot int, c *conn, p []byte) {
	if begun := w.responses[slot]; begun != nil {
		p = append(begun, p...)
		delete(w.responses, slot)
	}
	response, rest, whole := cutResponse(p)
	switch {
	case !whole && len(p) > longestResponse:
		w.fail(slot, c, faultf(handshakeFailed, "no end of the response in %d bytes", len(p)))
		return
	case !whole:
		w.responses[slot] = append([]byte(nil), p...)
		return
	}
	if err := checkResponse(response, c.base); err != nil {
		w.fail(slot, c, err.(*fault))
		return
	}
	record(w.stats.handshake, w.now-c.since)
	start := c.since
	w.setPhase(c, open)
	c.since = w.now
	w.settle(c)
	if w.read(slot, c, rest); c.phase == open { // what came behind the response was not asked for
		w.begin(slot, c, start)
	}
}

// begin begins what a connection is for. Start is when it began to be opened.
func (w *worker) begin(slot int, c *conn, start int64) {
	switch {
	case w.winding:
		w.startClose(slot, c)
		return
	case w.mode == modeConnect:
		w.ask(slot, c, 1)
		w.asked[slot*w.inFlight] = start // what is measured is the whole of it
	case w.mode == modeIdle:
		w.ask(slot, c, 1)
	case !w.paced():
		w.ask(slot, c, w.inFlight)
	}
	w.flush(slot, c)
}

// settle counts connections that have been opened, or could not be, for the first time.
func (w *worker) settle(c *conn) {
	if c.rounds > 1 {
		return
	}
	if w.unsettled--; w.unsettled == 0 {
		close(w.settled)
	}
}
