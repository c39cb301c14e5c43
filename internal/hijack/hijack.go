// Package hijack is the other way into the worker pool: from any net/http server. Its handler takes the
// connection over from the response writer, completes the WebSocket handshake with gobwas/ws's
// HTTPUpgrader, and hands the descriptor to a worker, together with what net/http had read beyond the request. Then net/http's
// connection lets go of it: no goroutine, buffer or registration with Go's own poller is left.
//
// It is as strict as the server's own listeners, since package echo examines the request here too.
// net/http refuses some requests by itself and in its own words, and it accepts a field that
// continues on the next line. The http.Server limits how long a request may take
// (ReadHeaderTimeout). Its MaxHeaderBytes should be at least echo.Config.MaxHeader, which applies
// here as well.
//
// A connection under TLS is refused with 501: its bytes are in the hands of crypto/tls. So is one whose net.Conn does not
// show its descriptor (syscall.Conn), as when the listener wraps it, and with 500 a response writer that cannot be
// hijacked.
package hijack

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
)

// responseTimeout is how long a peer may take to make room for the response to its request, which fits any
// empty send buffer.
const responseTimeout = 10 * time.Second

var (
	refuseTLS = &echo.Refusal{Status: http.StatusNotImplemented,
		Reason: "a TLS connection cannot be taken over from net/http: end TLS in front of this server"}
	refuseConn = &echo.Refusal{Status: http.StatusNotImplemented,
		Reason: "this connection cannot be taken over from net/http: it does not show its descriptor"}
	refuseWriter = &echo.Refusal{Status: http.StatusInternalServerError,
		Reason: "this connection cannot be taken over from net/http: its response writer does not allow it"}
	refuseDraining = &echo.Refusal{Status: http.StatusServiceUnavailable, Reason: "the server is shutting down"}
)

// Handler hands WebSocket connections to a pool.
type Handler struct {
	pool      *pool.Pool
	now       func() time.Time
	endpoints sync.Pool // of *echo.Endpoint, which examine requests
	upgrader  ws.HTTPUpgrader
}

// New makes a handler for a pool, with the rules of cfg for requests.
func New(p *pool.Pool, cfg echo.Config) *Handler {
	return &Handler{
		pool:      p,
		now:       cfg.Now,
		endpoints: sync.Pool{New: func() any { return echo.New(cfg) }},
		upgrader:  ws.HTTPUpgrader{Timeout: responseTimeout, Protocol: func(string) bool { return true }},
	}
}

// ServeHTTP answers a handshake, and returns when the connection is the pool's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	subprotocol, refusal := h.examine(r)
	if refusal == nil && r.TLS != nil {
		refusal = refuseTLS
	}
	if refusal != nil {
		h.pool.CountHandshake(refusal.Status)
		refuse(w, refusal)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.pool.CountHandshake(refuseWriter.Status)
		refuse(w, refuseWriter)
		return
	}
	defer conn.Close()
	if refusal := h.handOver(conn, rw, plain(r, subprotocol)); refusal != nil {
		h.pool.CountHandshake(refusal.Status)
		_ = conn.SetDeadline(time.Now().Add(responseTimeout))
		_, _ = conn.Write(refusal.Append(nil, h.now()))
	}
}

func (h *Handler) examine(r *http.Request) (subprotocol string, refusal *echo.Refusal) {
	e := h.endpoints.Get().(*echo.Endpoint)
	defer h.endpoints.Put(e)
	return e.Examine(headOf(r), lengthOf(r))
}

// handOver gives a hijacked connection to the pool, or says why that cannot be. If the peer does not take the response, there
// is nobody to say it to.
func (h *Handler) handOver(conn net.Conn, rw *bufio.ReadWriter, r *http.Request) *echo.Refusal {
	fd, err := duplicate(conn)
	if err != nil {
		if err == unix.EMFILE || err == unix.ENFILE {
			return echo.RefuseFull
		}
		return refuseConn
	}
	read, _ := rw.Reader.Peek(rw.Reader.Buffered()) // cannot fail for what is there
	upgraded, broken := false, false
	err = h.pool.Adopt(fd, peerOf(conn), echo.Upgraded(), slices.Clone(read), func() error {
		_, _, _, err := h.upgrader.Upgrade(r, hijacked{conn, rw})
		// From here on net/http has no part in it, and Go's poller does not watch it.
		conn.Close()
		if upgraded, broken = err == nil, err != nil; upgraded {
			h.pool.CountHandshake(http.StatusSwitchingProtocols)
		}
		return err
	})
	if err == nil {
		return nil
	}
	defer netpoll.Close(fd)
	if upgraded { // it is too late for a refusal
		bye := ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, refuseDraining.Reason)))
		_, _ = netpoll.Send(fd, bye)
		return nil
	}
	var refusal *echo.Refusal
	switch {
	case broken:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, pool.ErrDraining):
		return refuseDraining
	}
	return echo.RefuseFull
}

// peerOf returns the address of a connection's peer as package net or a wrapper knows it, which does not
// ask the socket: a socket that was reset has no peer. It is the zero AddrPort for a unix socket.
func peerOf(conn net.Conn) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

// duplicate makes another descriptor for a connection's socket, such as the pool wants it. Whether it blocks is a
// property of what both stand for, and Go has made it non-blocking.
func duplicate(conn net.Conn) (fd int, err error) {
	has, ok := conn.(syscall.Conn)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	raw, err := has.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	dup := func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }
	if failed := raw.Control(dup); failed != nil {
		return -1, failed
	}
	if err != nil {
		return -1, err
	}
	if err := netpoll.Prepare(fd); err != nil {
		netpoll.Close(fd)
		return -1, err
	}
	return fd, nil
}

// plain returns an examined request as HTTPUpgrader wants it: with each list shortened to the
// member that matters, and without extensions, which are declined by not mentioning them.
func plain(r *http.Request, subprotocol string) *http.Request {
	p := &http.Request{
		Method: r.Method, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Host: r.Host,
		Header: http.Header{
			"Upgrade":               {"websocket"},
			"Connection":            {"Upgrade"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     r.Header["Sec-Websocket-Key"],
		},
	}
	if subprotocol != "" {
		p.Header["Sec-Websocket-Protocol"] = []string{subprotocol}
	}
	return p
}

// hijacked is a response writer that HTTPUpgrader may hijack again: only once it is certain that there is room for the
// connection does it get to see it.
type hijacked struct {
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }
func (h hijacked) Header() http.Header                          { return http.Header{} }
func (h hijacked) WriteHeader(int)                              {}
func (h hijacked) Write(p []byte) (int, error)                  { return h.rw.Write(p) }
