package pool

import (
	"log/slog"
	"time"

	"wsecho/internal/echo"
)

const (
	// BufferSize is the size in bytes of each worker's buffer in the server, and so about the
	// longest frame that is echoed as one.
	BufferSize = 256 << 10

	// DefaultCloseTimeout limits the wait for a peer's close frame after ours. While draining, the
	// drain's own timeout comes first if it is shorter.
	DefaultCloseTimeout = 30 * time.Second

	// DefaultLingerTimeout limits the wait for a peer's FIN after ours.
	DefaultLingerTimeout = 2 * time.Second
)

// Config configures a pool. Every field must be set; where the comment says so, zero means no limit.
type Config struct {
	Workers  int // event loops
	MaxConns int // open connections

	MaxConnsPerIP int // from one IPv4 address or one IPv6 network of 64 bits; 0: no limit

	MaxFDs int // RLIMIT_NOFILE of the process: every descriptor is lower

	BufferSize   int // bytes of each worker's buffer, a power of two
	BufferBudget int // bytes that all connections together may hold

	HandshakeTimeout time.Duration // from accept to the end of the request
	IdleTimeout      time.Duration // of silence from the peer; 0: no limit
	WriteTimeout     time.Duration // for which a peer may take none of its output: see progress.go
	CloseTimeout     time.Duration // from our close frame to the peer's
	LingerTimeout    time.Duration // from our FIN to the peer's

	Echo echo.Config // MaxFrame is set by the pool
	Log  *slog.Logger

	// OnConn is called for every connection that a worker takes, and for its end. The worker waits
	// until it returns. If it is nil, events cost nothing.
	OnConn func(ConnEvent)
}
