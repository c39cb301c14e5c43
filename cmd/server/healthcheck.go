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

// healthTimeout limits how long -healthcheck waits for a response. A server answers within a
// second.
const healthTimeout = 3 * time.Second

// askHealth requests /healthz from the admin endpoints at addr. It returns nil if the server is
// healthy; otherwise the error has the reason.
func askHealth(addr string) error {
	if addr == "" {
		return errors.New("-admin none: the server has no admin endpoints, so there is nothing to ask")
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && port == "0" {
		return fmt.Errorf("-admin %s: port 0 stands for any port; use the port in the server's log", addr)
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
		// wsecho does not redirect, so the server would be another one.
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
			err = inner.Err // without the URL, whose host is not the dialed address
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

// reachable returns the addresses to dial, in order, for a server that listens at addr: the
// loopback addresses if addr stands for all addresses.
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
