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
	// BufferSize is the size in bytes of each worker's buffer in the server. Longer frames are
	// echoed in fragments.
	BufferSize = 256 << 10

	// DefaultCloseTimeout limits the wait for the peer's close frame after ours. The drain timeout
	// applies as well, and may be shorter.
	DefaultCloseTimeout = 30 * time.Second

	// DefaultLingerTimeout limits the wait for the peer's FIN after ours.
	DefaultLingerTimeout = 2 * time.Second

	// MostConns is the largest MaxConns that Fit chooses.
	MostConns = 4 << 20
)

// Errors of Fit.
var (
	ErrTooManyWorkers = errors.New("too many workers")
	ErrTooManyConns   = errors.New("too many connections")
)

// Config configures a pool. Every field must be set, unless its comment gives 0 or nil a meaning.
type Config struct {
	Workers  int // event loops
	MaxConns int // open connections

	MaxConnsPerIP int // from one IPv4 address or one IPv6 network of 64 bits; 0: no limit

	MaxFDs int // RLIMIT_NOFILE of the process: every descriptor is lower

	BufferSize   int // bytes of each worker's buffer, a power of two
	BufferBudget int // bytes that all connections together may hold

	HandshakeTimeout time.Duration // from accept to the end of the request
	IdleTimeout      time.Duration // since the last bytes from the peer; 0: no limit
	WriteTimeout     time.Duration // without progress in reading its output: see progress.go
	CloseTimeout     time.Duration // from our close frame to the peer's; 0: DefaultCloseTimeout
	LingerTimeout    time.Duration // from our FIN to the peer's; 0: DefaultLingerTimeout

	Echo echo.Config // MaxFrame is set by the pool
	Log  *slog.Logger

	// OnConn, unless nil, is called when a worker takes a connection and when that connection ends.
	// The worker waits until OnConn returns.
	OnConn func(ConnEvent)
}

// Needs returns the resources that a server of this configuration needs besides its connections.
func (c *Config) Needs() limits.Server {
	return limits.Server{Workers: c.Workers, BufferSize: c.BufferSize, BufferBudget: c.BufferBudget}
}

// Fit sets MaxFDs, and MaxConns if it is 0, to fit the process's descriptor limit (RLIMIT_NOFILE).
// The error wraps ErrTooManyWorkers or ErrTooManyConns and names the limit.
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
	// The kernel allocates the lowest free descriptor, so few are higher than the connection count.
	// Other parts of the process may open another 65,536.
	c.MaxFDs = min(descriptors, c.MaxConns+own+1<<16)
	return nil
}
