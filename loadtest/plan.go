package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// mode is what connections do.
type mode string

const (
	modeEcho    mode = "echo"    // send and await replies for as long as it lasts
	modeIdle    mode = "idle"    // echo once, then stay open and silent
	modeConnect mode = "connect" // open, echo once, close, and again
)

// A plan is what is to be done. It does not change while it is done.
type plan struct {
	mode        mode
	target      target
	sources     []netip.Addr // empty: the kernel chooses
	connections int
	workers     int
	handshakes  int  // that a worker may have outstanding
	ramp        pace // of connections
	rate        pace // of messages, or in modeConnect of connections; 0: a closed loop
	inFlight    int
	reopen      bool // what the server closes or loses is opened again
	leave       bool // at the end connections are not closed by the close handshake
	tape        *tape
	timeout     time.Duration
	timer       timer
}

// paced says whether messages are sent at a fixed rate. Otherwise the loop is closed: a
// message is sent when a reply has come.
func (p *plan) paced() bool { return p.rate.perSecond > 0 }

// clock is the time since the plan began, but for that in which the process was paused. Every other time of a run is one of these.
func (p *plan) clock() int64 { return p.timer.now() }

// slotsOf is how many of the connections are a worker's.
func slotsOf(worker, workers, connections int) int {
	return (connections - worker + workers - 1) / workers
}

// target is where the server is.
type target struct {
	url  string
	addr netip.AddrPort
	host string // for the request
	path string
}

// splitURL reads a URL that wsload can reach.
func splitURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.Scheme == "wss":
		return nil, errors.New("is for TLS, which wsload does not speak")
	case err != nil || u.Scheme != "ws" || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return nil, errors.New("is not ws://host:port/path")
	}
	return u, nil
}

// resolve finds the address in a URL.
func resolve(text string) (target, error) {
	u, err := splitURL(text)
	if err != nil {
		return target{}, err
	}
	found, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
	if err != nil {
		return target{}, err
	}
	addr := found.AddrPort()
	return target{text, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), u.Host, u.RequestURI()}, nil
}

// parseSources reads source addresses: a list, or how many from 127.0.0.1 on.
func parseSources(items []string) (sources []netip.Addr, err error) {
	if len(items) == 1 {
		if n, err := strconv.Atoi(items[0]); err == nil {
			return loopback(n)
		}
	}
	for _, item := range items {
		addr, err := netip.ParseAddr(item)
		if err != nil {
			return nil, errors.New("is neither a list of IP addresses nor a number of them")
		}
		sources = append(sources, addr)
	}
	return sources, nil
}

func loopback(n int) (addrs []netip.Addr, err error) {
	const most = 65_000
	if n < 0 || n > most {
		return nil, fmt.Errorf("is not between 0 and %d addresses", most)
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for range n {
		addrs = append(addrs, addr)
		addr = addr.Next()
	}
	return addrs, nil
}
