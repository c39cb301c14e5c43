// Package hijack adds WebSocket connections of a net/http server to the worker pool. Its handler
// hijacks the connection, completes the opening handshake with gobwas/ws's HTTPUpgrader, and passes
// a duplicate of the descriptor to a worker, together with the bytes that net/http has read beyond
// the request. Then it closes net/http's connection: no goroutine, buffer or registration with Go's
// own poller remains.
//
// The handler is as strict as the server's own listeners, since package echo examines the request
// here too. net/http refuses some malformed requests itself, with responses of its own, and it
// accepts a field that continues on the next line. The http.Server limits the duration of a request
// (ReadHeaderTimeout). Its MaxHeaderBytes should be at least echo.Config.MaxHeader, which the
// handler enforces as well.
//
// The handler refuses a TLS connection with 501, because only crypto/tls can read its stream. It
// refuses a net.Conn that does not expose its descriptor (syscall.Conn), such as one that the
// listener has wrapped, with 501 too, and a response writer that cannot be hijacked with 500.
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

// responseTimeout limits the write of the response. The response fits any empty send buffer, so the
// write blocks only if earlier responses are still unread.
const responseTimeout = 10 * time.Second

var (
	refuseTLS = &echo.Refusal{Status: http.StatusNotImplemented,
		Reason: "a TLS connection cannot be taken over from net/http: terminate TLS in front of this server"}
	refuseConn = &echo.Refusal{Status: http.StatusNotImplemented,
		Reason: "this connection cannot be taken over from net/http: it does not expose its descriptor"}
	refuseWriter = &echo.Refusal{Status: http.StatusInternalServerError,
		Reason: "this connection cannot be taken over from net/http: its response writer cannot be hijacked"}
	refuseDraining = &echo.Refusal{Status: http.StatusServiceUnavailable, Reason: "the server is shutting down"}
)

// A Handler is an http.Handler that passes WebSocket connections to a pool.
type Handler struct {
	pool      *pool.Pool
	now       func() time.Time
	endpoints sync.Pool // of *echo.Endpoint, which examine requests
	upgrader  ws.HTTPUpgrader
}

// New returns a handler for p that checks requests against cfg.
func New(p *pool.Pool, cfg echo.Config) *Handler {
	return &Handler{
		pool:      p,
		now:       cfg.Now,
		endpoints: sync.Pool{New: func() any { return echo.New(cfg) }},
		upgrader:  ws.HTTPUpgrader{Timeout: responseTimeout, Protocol: func(string) bool { return true }},
	}
}

// ServeHTTP answers an opening handshake. It returns when the pool owns the connection, or when the
// request has been refused.
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

// examine checks a request and chooses its subprotocol.
func (h *Handler) examine(r *http.Request) (subprotocol string, refusal *echo.Refusal) {
	e := h.endpoints.Get().(*echo.Endpoint)
	defer h.endpoints.Put(e)
	return e.Examine(headOf(r), lengthOf(r))
}

// handOver passes a hijacked connection to the pool, or returns the refusal to send. If the peer
// has not received the response, it returns nil: a refusal would not arrive either.
func (h *Handler) handOver(conn net.Conn, rw *bufio.ReadWriter, r *http.Request) *echo.Refusal {
	fd, err := duplicate(conn)
	if err != nil {
		if err == unix.EMFILE || err == unix.ENFILE {
			return echo.RefuseFull
		}
		return refuseConn
	}
	read, _ := rw.Reader.Peek(rw.Reader.Buffered()) // cannot fail for buffered bytes
	upgraded, broken := false, false
	err = h.pool.Adopt(fd, peerOf(conn), echo.Upgraded(), slices.Clone(read), func() error {
		_, _, _, err := h.upgrader.Upgrade(r, hijacked{conn, rw})
		// From now on only fd refers to the socket, and Go's poller does not watch it.
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

// peerOf returns the address of a connection's peer, or the zero AddrPort for a unix socket. It
// uses RemoteAddr, which package net has stored: the kernel no longer knows the peer of a socket
// after a reset.
func peerOf(conn net.Conn) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

// duplicate returns a second descriptor for a connection's socket, prepared for the pool. It is
// non-blocking: O_NONBLOCK belongs to the open file description, which both descriptors share, and
// Go has set it.
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

// plain returns an examined request in the form that HTTPUpgrader expects: each list reduced to the
// relevant member, and no extensions, so that the response declines them by omission.
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

// hijacked is a response writer for a connection that is hijacked already, which HTTPUpgrader
// hijacks again. ServeHTTP must have the connection before the upgrade, because Adopt needs its
// descriptor.
type hijacked struct {
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }
func (h hijacked) Header() http.Header                          { return http.Header{} }
func (h hijacked) WriteHeader(int)                              {}
func (h hijacked) Write(p []byte) (int, error)                  { return h.rw.Write(p) }
