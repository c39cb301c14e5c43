package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/limits"
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

	// MostConns is the largest number of connections that Fit chooses.
	MostConns = 4 << 20
)

// Reasons for which Fit fails.
var (
	ErrTooManyWorkers = errors.New("too many workers")
	ErrTooManyConns   = errors.New("too many connections")
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
	CloseTimeout     time.Duration // from our close frame to the peer's; 0: DefaultCloseTimeout
	LingerTimeout    time.Duration // from our FIN to the peer's; 0: DefaultLingerTimeout

	Echo echo.Config // MaxFrame is set by the pool
	Log  *slog.Logger

	// OnConn is called for every connection that a worker takes, and for its end. The worker waits
	// until it returns. If it is nil, events cost nothing.
	OnConn func(ConnEvent)
}

// Needs returns what a server of this configuration takes of a machine, beside its connections.
func (c *Config) Needs() limits.Server {
	return limits.Server{Workers: c.Workers, BufferSize: c.BufferSize, BufferBudget: c.BufferBudget}
}

// Fit sets MaxFDs, and MaxConns if it is 0, according to how many descriptors the process may have. Its
// error is ErrTooManyWorkers or ErrTooManyConns, with the limit.
func (c *Config) Fit(descriptors int) error {
	allowed := int(limits.ConnsFor(int64(descriptors), c.Needs().Descriptors()))
	own := descriptors - allowed
	switch {
	case own < 16+2*c.Workers:
		return fmt.Errorf("%w for the descriptor limit %d (ulimit -Hn, LimitNOFILE=)", ErrTooManyWorkers, descriptors)
	case c.MaxConns > allowed:
		return fmt.Errorf("%w: the descriptor limit %d allows %d (ulimit -Hn, LimitNOFILE=)", ErrTooManyConns, descriptors, allowed)
	case c.MaxConns == 0:
		c.MaxConns = min(allowed, MostConns)
	}
	// The kernel gives out the lowest free descriptor. The rest of the process may have 65,536.
	c.MaxFDs = min(descriptors, c.MaxConns+own+1<<16)
	return nil
}
