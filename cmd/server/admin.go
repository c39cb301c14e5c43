package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"

	"wsecho/internal/admin"
	"wsecho/internal/flags"
	"wsecho/internal/hijack"
	"wsecho/internal/pool"
)

// operations is the admin server; the zero operations is none.
type operations struct {
	listener net.Listener
	server   *admin.Server
}

// listenAdmin opens the listening socket of the admin endpoints, if they are wanted. Nothing is answered there before serve.
func listenAdmin(addr string, log *slog.Logger) (*operations, error) {
	if addr == "" {
		return &operations{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-admin %s: %w", addr, err)
	}
	if at, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !at.Addr().IsLoopback() {
		log.Warn("the admin endpoints can be reached from other machines: profiles and peers' addresses are there", "admin", at.String())
	}
	return &operations{listener: l}, nil
}

func (o *operations) serve(p *pool.Pool, cfg *pool.Config, lines *logQueue) {
	if o.listener == nil {
		return
	}
	number, commit := flags.Build()
	o.server = admin.Start(o.listener, admin.Config{
		Pool:    p,
		Echo:    hijack.New(p, cfg.Echo),
		Version: admin.Version{Number: number, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
		Log:     lines.log,
		LogLost: lines.lost.Load,
	})
}

// addr is where it listens; empty: nowhere.
func (o *operations) addr() string {
	if o.listener == nil {
		return ""
	}
	return o.listener.Addr().String()
}

// failed delivers the error that keeps it from serving on.
func (o *operations) failed() <-chan error {
	if o.server == nil {
		return nil
	}
	return o.server.Failed()
}

func (o *operations) close() {
	switch {
	case o.server != nil:
		o.server.Close()
	case o.listener != nil:
		o.listener.Close()
	}
}
