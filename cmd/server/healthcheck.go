package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// healthTimeout is how long -healthcheck waits for an answer. The server answers within a second.
const healthTimeout = 3 * time.Second

// askHealth asks the server whose admin endpoints are at addr for /healthz. The error says why that
// server is not healthy.
func askHealth(addr string) error {
	if addr == "" {
		return errors.New("-admin none: without admin endpoints there is nothing to ask")
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && port == "0" {
		return fmt.Errorf("-admin %s: port 0 stands for any port: give the one in the server's log", addr)
	}
	client := http.Client{
		Timeout: healthTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
				for _, at := range reachable(addr) {
					if c, err = new(net.Dialer).DialContext(ctx, "tcp", at); err == nil {
						break
					}
				}
				return c, err
			},
		},
		// A server that redirects is not wsecho.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Get("http://localhost/healthz")
	if err != nil {
		var inner *url.Error
		switch {
		case !errors.As(err, &inner):
		case inner.Timeout():
			err = fmt.Errorf("no answer within %v", healthTimeout)
		default:
			err = inner.Err // without the URL, which is not the address
		}
		return fmt.Errorf("-admin %s: %w", addr, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 512))
		return fmt.Errorf("-admin %s: /healthz answers %s: %q", addr, response.Status, reason)
	}
	return nil
}

// reachable returns the addresses to dial, in turn, for a server that listens at addr: those of
// loopback if it listens on all addresses.
func reachable(addr string) []string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return []string{addr}
	}
	v4, v6 := net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return []string{v4, v6}
	case err != nil || !ip.Unmap().IsUnspecified():
		return []string{addr}
	case ip.Unmap().Is4():
		return []string{v4}
	}
	return []string{v6, v4}
}
