package main

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

const (
	// bufferSize is each worker's buffer, and so about the longest frame that is echoed as one.
	bufferSize = 256 << 10

	// So many descriptors are kept from connections: for epoll and eventfd, for connections that are
	// only to be refused, and for whatever else the process opens. But where there are few
	// at all, it is a quarter of them: then it is refusals that are made without.
	ownDescriptors          = 128
	ownDescriptorsPerWorker = 2 + 64

	mostConns = 4 << 20 // by default
)

// raiseDescriptorLimit raises the soft limit of descriptors to the hard one,
// and returns it. (Go does so too when it starts, but to one less.)
func raiseDescriptorLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	return int(min(limit.Cur, 1<<31-1)), nil
}

// ownDescriptors are those kept from connections.
func (s *settings) ownDescriptors() int { return ownDescriptors + ownDescriptorsPerWorker*s.workers }

// poolConfig is the pool that the settings ask for, within what the limit of
// descriptors allows.
func (s *settings) poolConfig(limit int, log *slog.Logger) (pool.Config, error) {
	allowed := int(limits.ConnsFor(int64(limit), int64(s.ownDescriptors())))
	own := limit - allowed
	conns := s.maxConns
	switch {
	case own < 16+2*s.workers:
		return pool.Config{}, fmt.Errorf("-workers %d: too many for the descriptor limit %d (ulimit -Hn, LimitNOFILE=)", s.workers, limit)
	case conns == 0:
		conns = min(allowed, mostConns)
	case conns > allowed:
		return pool.Config{}, fmt.Errorf("-max-conns %d: the descriptor limit %d allows %d (ulimit -Hn, LimitNOFILE=)", conns, limit, allowed)
	}
	return pool.Config{
		Workers:          s.workers,
		MaxConns:         conns,
		MaxConnsPerIP:    s.maxConnsPerIP,
		MaxFDs:           min(limit, conns+own+1<<16), // the kernel gives out the lowest that is free
		BufferSize:       bufferSize,
		BufferBudget:     int(s.bufferBudget),
		HandshakeTimeout: s.handshakeTimeout,
		IdleTimeout:      s.idleTimeout,
		WriteTimeout:     s.writeTimeout,
		CloseTimeout:     closeTimeout,
		LingerTimeout:    lingerTimeout,
		Echo: echo.Config{
			MaxMessage:     uint64(s.maxMessage),
			MaxHeader:      int(s.maxHeader),
			AnySubprotocol: s.subprotocols.any,
			Subprotocols:   s.subprotocols.members,
			AnyOrigin:      s.origins.any,
			Origins:        s.origins.members,
			Now:            time.Now,
		},
		Log: log,
	}, nil
}

const (
	// closeTimeout is for a peer's close frame after ours. While draining, the drain's
	// own timeout comes first if it is shorter.
	closeTimeout = 30 * time.Second

	// lingerTimeout is for a peer's FIN after ours.
	lingerTimeout = 2 * time.Second
)
