package netpoll

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	longest := strings.Repeat("x", maxPath)
	for _, want := range []Address{
		{text: ":8080", port: 8080},
		{text: ":0"},
		{text: ":65535", port: 65535},
		{text: "127.0.0.1:80", ip: netip.MustParseAddr("127.0.0.1"), port: 80},
		{text: "0.0.0.0:80", ip: netip.MustParseAddr("0.0.0.0"), port: 80},
		{text: "[::]:80", ip: netip.MustParseAddr("::"), port: 80},
		{text: "[2001:DB8:0::1]:80", ip: netip.MustParseAddr("2001:db8::1"), port: 80},
		{text: "[fe80::1%eth0]:80", ip: netip.MustParseAddr("fe80::1%eth0"), port: 80},
		{text: "[::ffff:192.0.2.1]:80", ip: netip.MustParseAddr("192.0.2.1"), port: 80},
		{text: "[::ffff:0.0.0.0]:80", ip: netip.MustParseAddr("0.0.0.0"), port: 80},
		{text: "localhost:80", host: "localhost", port: 80},
		{text: "node-1_a.example.com.:80", host: "node-1_a.example.com.", port: 80},
		{text: "3com.example:80", host: "3com.example", port: 80},
		{text: "unix:80", path: "80"}, // not the host "unix"
		{text: "unix:/run/wsecho.sock", path: "/run/wsecho.sock"},
		{text: "unix:relative", path: "relative"},
		{text: "unix:./@file", path: "./@file"},
		{text: "unix:@name", path: "@name"},
		{text: "unix:@@", path: "@@"},
		{text: "unix:" + longest, path: longest},
		{text: "unix:@" + longest, path: "@" + longest},
	} {
		if got, err := ParseAddress(want.text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", want.text, got, err, want)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	tooLong := strings.Repeat("x", maxPath+1)
	for text, want := range map[string]string{
		"":                       "missing port",
		"8080":                   "missing port",
		"localhost":              "missing port",
		"127.0.0.1:":             "missing port",
		":":                      "missing port",
		"[::1]":                  "missing port",
		":http":                  `port "http" is not a number from 0 to 65535`,
		":65536":                 `port "65536" is not a number`,
		":-1":                    `port "-1" is not a number`,
		":+80":                   `port "+80" is not a number`,
		":80 ":                   `port "80 " is not a number`,
		"::1:80":                 "too many colons",
		"http://localhost:80":    "too many colons",
		"[::1:80":                "missing ']'",
		"[]:80":                  "is not an IPv6 address",
		"[localhost]:80":         "is not an IPv6 address",
		"[::1%]:80":              "is not an IPv6 address",
		"[127.0.0.1]:80":         "brackets are for IPv6",
		"[fe80::1]:80":           "link-local address without its interface",
		"256.0.0.1:80":           "neither an IP address nor a host name",
		"127.1:80":               "neither an IP address nor a host name",
		"127.0.0.1.:80":          "neither an IP address nor a host name",
		"0x7f.0.0.0x1:80":        "neither an IP address nor a host name",
		"8080:80":                "neither an IP address nor a host name",
		"*:80":                   "neither an IP address nor a host name",
		"a..b:80":                "neither an IP address nor a host name",
		"/run/wsecho.sock:80":    "neither an IP address nor a host name",
		"unix:":                  "path is missing",
		"unix:@":                 "abstract name is missing",
		"unix:/a\x00b":           "path contains a NUL byte",
		"unix:@\x00":             "abstract name contains a NUL byte",
		"unix:" + tooLong:        "path is 108 bytes long, the limit is 107",
		"unix:@" + tooLong:       "abstract name is 108 bytes long, the limit is 107",
		"unix:/" + tooLong + "/": "path is 110 bytes long, the limit is 107",
	} {
		a, err := ParseAddress(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "listen "+text+": ") {
			t.Errorf("%q: got %+v, %v; want an error with the address and %q", text, a, err, want)
		}
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{":80", ":080", true},
		{"[::1]:80", "[0:0::1]:80", true},
		{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", true},
		{"localhost:80", "localhost:80", true},
		{"unix:/a", "unix:/a", true},
		{":80", ":81", false},
		{"0.0.0.0:80", "[::]:80", false},
		{"unix:/a", "unix:@a", false},
		{":0", ":0", false}, // two ports
	} {
		a, errA := ParseAddress(c.a)
		b, errB := ParseAddress(c.b)
		if errA != nil || errB != nil || a.Same(b) != c.same || b.Same(a) != c.same {
			t.Errorf("%s, %s: got same %v, want %v; errors %v, %v", c.a, c.b, a.Same(b), c.same, errA, errB)
		}
	}
}

// FuzzParseAddress checks that a valid address is of one kind only and within the limits of its
// kind, and that String returns a text that parses to the same address.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		":8080", "0.0.0.0:1", "[::]:65535", "[fe80::1%lo]:0", "[::ffff:127.0.0.1]:1", "localhost:80", "a.b-c:1",
		"unix:/run/x", "unix:@x", "unix:", "unix:@", "unix:\x00", "127.1:1", "[::1", "::1:1", ":http", "*:1", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			if a != (Address{}) {
				t.Errorf("%q: got %+v with an error, want the zero Address", text, a)
			}
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%q: got %+v, but %+v, %v from its text", text, a, again, err)
		}
		if !a.IsTCP() {
			name := strings.TrimPrefix(a.path, "@")
			if name == "" || len(name) > maxPath || strings.ContainsRune(name, 0) || a.host != "" || a.ip.IsValid() || a.port != 0 {
				t.Errorf("%q: got %+v, want only a path within the limit", text, a)
			}
			return
		}
		if a.IsAbstract() || a.host != "" && a.ip.IsValid() || a.ip.Is4In6() {
			t.Errorf("%q: got %+v, want either a host name or an IP address that is not IPv4-mapped", text, a)
		}
		if _, err := netip.ParseAddr(a.host); err == nil {
			t.Errorf("%q: got the host name %s, want an IP address", text, a.host)
		}
		// An IP address needs no lookup.
		if ips, err := a.resolve(func(context.Context, string, string) ([]netip.Addr, error) {
			if a.host == "" {
				t.Errorf("%q: got a lookup, want none", text)
			}
			return []netip.Addr{netip.IPv6Loopback()}, nil
		}); err == nil && len(ips) != 1 {
			t.Errorf("%q: got %v, want one address", text, ips)
		}
	})
}
