package main

import (
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"

	"wsecho/internal/admin"
	"wsecho/internal/flags"
	"wsecho/internal/hijack"
	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
)

// operations is the admin server. The zero value serves nothing.
type operations struct {
	sockets   []socket
	listeners []net.Listener // of the sockets
	server    *admin.Server
}

// listenAdmin opens the listening sockets of the admin endpoints; addr is empty for none. Requests
// wait until serve. An error names the socket of before, those that are already open, that is in
// the way.
func listenAdmin(addr string, before []socket, log *slog.Logger) (*operations, error) {
	o := &operations{}
	if addr == "" {
		return o, nil
	}
	a, err := netpoll.ParseAddress(addr)
	if err == nil {
		o.sockets, err = listenAt("-admin", a, netpoll.ListenConfig{}, before, log)
	}
	if err != nil {
		return nil, err
	}
	for i, s := range o.sockets {
		l, err := s.Net()
		if err != nil {
			o.close()
			for _, s := range o.sockets[i+1:] {
				s.Close()
			}
			return nil, fmt.Errorf("-admin %s: %w", addr, err)
		}
		o.listeners = append(o.listeners, l)
		if !s.IsLoopback() {
			log.Warn("admin endpoints can be reached from other machines, with profiles and peer addresses (-admin)", "admin", s.String())
		}
	}
	return o, nil
}

func (o *operations) serve(p *pool.Pool, cfg *pool.Config, lines *logQueue) {
	if o.listeners == nil {
		return
	}
	number, commit := flags.Build()
	o.server = admin.Start(o.listeners, admin.Config{
		Pool:    p,
		Echo:    hijack.New(p, cfg.Echo),
		Version: admin.Version{Number: number, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
		Log:     lines.log,
		LogLost: lines.lost.Load,
	})
}

// addr returns the listening addresses, separated by commas, or "" if there are none.
func (o *operations) addr() string {
	all := make([]string, len(o.sockets))
	for i, s := range o.sockets {
		all[i] = s.String()
	}
	return strings.Join(all, ",")
}

// failed returns the channel for the error that stops the admin server, or nil if there is none.
func (o *operations) failed() <-chan error {
	if o.server == nil {
		return nil
	}
	return o.server.Failed()
}

func (o *operations) close() {
	if o.server != nil {
		o.server.Close()
		return
	}
	for _, l := range o.listeners {
		l.Close()
	}
}
