package pool

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParsePeer(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"192.0.2.7/32":         "192.0.2.7",
		"192.0.2.7/24":         "192.0.2.0/24",
		"0.0.0.0/0":            "0.0.0.0/0",
		"192.0.2.7:51522":      "192.0.2.7:51522",
		"2001:DB8::1":          "2001:db8::1",
		"2001:db8::1/32":       "2001:db8::/32",
		"::/0":                 "::/0",
		"[::1]:80":             "[::1]:80",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"::ffff:192.0.2.7/120": "192.0.2.0/24",
		"[::ffff:c000:207]:80": "192.0.2.7:80",
		"unix":                 "unix",
	} {
		if f, err := ParsePeer(text); err != nil || f.String() != want {
			t.Errorf("%s: got %v, error %v; want %s", text, f, err, want)
		}
	}
	const rule = "is not an IP address, a prefix such as 192.0.2.0/24, an address with a port, or unix"
	for text, want := range map[string]string{
		"":                   rule,
		" ":                  rule,
		"localhost":          rule,
		"192.0.2":            rule,
		"192.0.2.7 ":         rule,
		"192.0.2.07":         rule,
		"192.0.2.0/33":       rule,
		"192.0.2.0/-1":       rule,
		"192.0.2.0/024":      rule,
		"192.0.2.0/":         rule,
		"192.0.2.0/24:80":    rule,
		"192.0.2.7:0":        rule,
		"192.0.2.7:65536":    rule,
		"192.0.2.7:":         rule,
		":80":                rule,
		"[::1]":              rule,
		"2001:db8::/129":     rule,
		"192.0.2.1,::1":      rule,
		"UNIX":               rule,
		"unix:/run/x":        rule,
		"fe80::1%eth0":       "has a zone",
		"[fe80::1%eth0]:80":  "has a zone",
		"::ffff:0.0.0.0/95":  "fewer than 96 bits",
		"::ffff:192.0.2.7/0": "fewer than 96 bits",
	} {
		f, err := ParsePeer(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `"`+text+`"`) {
			t.Errorf("%q: got %v, error %v; want an error with the text and %q", text, f, err, want)
		}
	}
}

// FuzzParsePeer checks that String returns a text that is parsed as the same filter, and that an
// address selects itself and not its successor.
func FuzzParsePeer(f *testing.F) {
	for _, seed := range []string{"192.0.2.7", "192.0.2.0/24", "[::1]:80", "::ffff:192.0.2.7/120", "2001:db8::/32", "unix", "fe80::1%eth0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParsePeer(text)
		if err != nil {
			return
		}
		again, err := ParsePeer(filter.String())
		if err != nil || *again != *filter {
			t.Errorf("%q: String returned %q, which is parsed as %v, error %v", text, filter, again, err)
		}
		if filter.unix {
			return
		}
		if !filter.matches(-1, netip.AddrPortFrom(filter.prefix.Addr(), max(1, filter.port))) {
			t.Errorf("%q does not match %v, want a match", text, filter.prefix.Addr())
		}
		if addr, err := netip.ParseAddr(text); err == nil && filter.matches(-1, netip.AddrPortFrom(addr.Unmap().Next(), 1)) {
			t.Errorf("%q matches %v, want no match", text, addr.Unmap().Next())
		}
		if filter.matches(-1, netip.AddrPort{}) {
			t.Errorf("%q matches a connection without an address, want no match", text)
		}
	})
}
