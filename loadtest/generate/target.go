package generate

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
)

// A Target is the server under load.
type Target struct {
	URL   string           // without user name and password, for reports
	Addrs []netip.AddrPort // of the URL's host, in the order in which they are tried
}

// mostAddresses is the maximum number of addresses of a name that are tried.
const mostAddresses = 16

// ParseURL parses the URL of a server. It does not resolve the name. Its error is the predicate of
// a sentence whose subject is the URL: "is not ws://host:port/path".
func ParseURL(text string) (*url.URL, error) {
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
	if zone := strings.IndexByte(u.Host, '%'); zone >= 0 { // the zone is local to this host (RFC 6874, section 4)
		u.Host = u.Host[:zone] + u.Host[strings.IndexByte(u.Host, ']'):]
	}
	return u, checkUserInfo(u.User)
}

// checkUserInfo returns an error if the user name or password cannot be sent as Basic authorization
// (RFC 7617, section 2).
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

// secrets matches the user information of URLs in text, quoted or not.
var secrets = regexp.MustCompile(`://(?:\\.|[^"\\\n])*@`)

// Redact replaces the user names and passwords of URLs in text.
func Redact(text string) string { return secrets.ReplaceAllString(text, "://xxxxx@") }

// Resolve returns the addresses of the host of a URL that ParseURL has accepted: of both families,
// or only of the family of the source addresses if there are any. It returns an error if the name
// has no address, or none of the family of the sources.
func Resolve(ctx context.Context, text string, sources []netip.Addr) ([]netip.AddrPort, error) {
	u, err := url.Parse(text)
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
	if strings.EqualFold(u.Hostname(), "localhost") { // RFC 6761, section 6.3; /etc/hosts may lack one of them
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
			return nil, fmt.Errorf("-source %v: is not of the address family of the server, %v", from, found[0].Unmap())
		}
	}
	return addrs, nil
}

// ParseSources parses source addresses: a list, or the number of addresses from 127.0.0.1 on. Its
// error is the predicate of a sentence whose subject is the list.
func ParseSources(items []string) (sources []netip.Addr, err error) {
	if len(items) == 1 {
		if n, err := strconv.Atoi(items[0]); err == nil {
			return loopback(n)
		}
	}
	for _, item := range items {
		addr, err := netip.ParseAddr(item)
		if err != nil {
			return nil, errors.New("is neither a list of IP addresses nor a number of addresses")
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
