package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	requestHead []byte // of the opening requests: see appendRequest

	subprotocols []string     // that are offered
	greetings    uint8        // messages that the server sends before the first echo
	sources      []netip.Addr // empty: the kernel chooses
	connections  int
	workers      int
	handshakes   int  // that a worker may have outstanding
	ramp         pace // of connections
	rate         pace // of messages, or in modeConnect of connections; 0: a closed loop
	inFlight     int
	reopen       bool // what the server closes or loses is opened again
	leave        bool // at the end connections are not closed by the close handshake
	tape         *tape
	timeout      time.Duration
	timer        timer
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
	url   string           // for the report: without user name and password
	addrs []netip.AddrPort // of its name, in the order in which they are tried
}

// mostAddresses is how many addresses of a name are tried.
const mostAddresses = 16

// parseURL parses a URL that wsload can reach, as far as that can be done without a name server.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err == nil && (u.Scheme == "wss" || u.Scheme == "https"):
		return nil, errors.New("is for TLS, which wsload does not support yet: use ws://host:port/path")
	case err != nil || u.Scheme != "ws" || u.Hostname() == "" || u.Fragment != "":
		return nil, errors.New("is not ws://host:port/path")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("has port %s, which is not between 1 and 65535", port)
		}
	}
	if name := u.Hostname(); strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("has a host %q with characters that are not ASCII: write it as xn--…", name)
	}
	if zone := strings.IndexByte(u.Host, '%'); zone >= 0 { // the server has no use for it (RFC 6874, section 4)
		u.Host = u.Host[:zone] + u.Host[strings.IndexByte(u.Host, ']'):]
	}
	return u, checkUserInfo(u.User)
}

// checkUserInfo checks what is sent as Basic authorization (RFC 7617, section 2).
func checkUserInfo(user *url.Userinfo) error {
	password, _ := user.Password()
	switch {
	case strings.Contains(user.Username(), ":"):
		return errors.New("has a colon in its user name, which Basic authorization cannot express")
	case strings.ContainsFunc(user.Username()+password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("has a control character in its user name or password")
	}
	return nil
}

// secrets is the user information of URLs in text, quoted or not.
var secrets = regexp.MustCompile(`://(?:\\.|[^"\\\n])*@`)

// redact hides the user information of URLs in text.
func redact(text string) string { return secrets.ReplaceAllString(text, "://xxxxx@") }

// resolve finds the addresses of a URL's host. A name that has addresses of both families is all of
// them; with source addresses, only those of their family.
func resolve(ctx context.Context, text string, sources []netip.Addr) ([]netip.AddrPort, error) {
	u, err := url.Parse(text) // which parseURL has checked
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(u.Hostname(), "localhost") { // /etc/hosts may lack one (RFC 6761, section 6.3)
		found = append(found, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
	}
	var addrs []netip.AddrPort
	for _, addr := range found {
		addr = addr.Unmap()
		to := netip.AddrPortFrom(addr, uint16(port))
		if len(addrs) < mostAddresses && !slices.Contains(addrs, to) && (len(sources) == 0 || addr.Is4() == sources[0].Is4()) {
			addrs = append(addrs, to)
		}
	}
	for _, from := range sources {
		if len(addrs) == 0 || from.Is4() != addrs[0].Addr().Is4() {
			return nil, fmt.Errorf("-source %v: is not of the family of %v", from, found[0].Unmap())
		}
	}
	return addrs, nil
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
