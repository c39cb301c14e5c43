package echo

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func origins(t testing.TB, rules ...string) (all []Origin) {
	t.Helper()
	for _, r := range rules {
		o, err := ParseOrigin(r)
		if err != nil {
			t.Fatal(r, " ", err)
		}
		all = append(all, o)
	}
	return all
}

// originRules holds valid rules, each with an Origin that it admits.
var originRules = []struct{ rule, admits string }{
	{"example.com", "https://example.com"},
	{"EXAMPLE.com", "https://example.com:8443"},
	{"localhost", "http://localhost:3000"},
	{"app_1.x-y.example:8080", "http://app_1.x-y.example:8080"},
	{"example.com:0443", "https://example.com"},
	{"example.com:65535", "https://example.com:65535"},
	{"xn--bcher-kva.example", "https://xn--bcher-kva.example"},
	{"192.0.2.1", "http://192.0.2.1"},
	{"192.0.2.1:80", "http://192.0.2.1"},
	{"[2001:DB8::1]", "http://[2001:db8::1]"},
	{"[2001:db8:0:0:0:0:0:1]:443", "https://[2001:db8::1]"},
	{"[::ffff:192.0.2.1]", "http://[::ffff:c000:201]"},
	{"*.example.com", "https://a.b.example.com"},
	{"*.example.com:8443", "https://a.example.com:8443"},
	{"*.localhost", "http://a.localhost"},
	{"1.example", "http://1.example"},
	{"0x.example", "http://0x.example"},
	{"null", "null"},
	{strings.Repeat("x", 63) + ".example", "https://" + strings.Repeat("x", 63) + ".example"},
}

func TestOriginRules(t *testing.T) {
	for _, c := range originRules {
		o, err := ParseOrigin(c.rule)
		if err != nil {
			t.Errorf("%q %v", c.rule, err)
			continue
		}
		if origin, ok := parseSerializedOrigin([]byte(c.admits)); !ok || !o.admits(&origin) {
			t.Errorf("%q does not admit %q", c.rule, c.admits)
		}
		if again, err := ParseOrigin(o.String()); err != nil || again != o {
			t.Errorf("%q: String returns %q, which parses as %+v, %v", c.rule, o, again, err)
		}
	}
}

func TestOriginRulesThatMatchNothing(t *testing.T) {
	for rule, cause := range map[string]string{
		"":                              "between dots",
		"https://app.example.com":       "scheme",
		"https://*.example.com":         "scheme",
		"app.example.com/":              "path",
		"app.example.com/*":             "path",
		"app.example.com?a":             "path",
		"user@app.example.com":          "user information",
		"*":                             "any",
		"*:443":                         "any",
		"*example.com":                  "first label",
		"a.*.example.com":               "first label",
		"app-*.example.com":             "first label",
		"*.*.example.com":               "first label",
		"*.":                            "between dots",
		`"app.example.com"`:             `'"'`,
		"'app.example.com'":             `'\''`,
		"app.example.com;b.example":     "';'",
		"app.example.com b.example":     "' '",
		"app%2eexample.com":             "'%'",
		"bücher.example":                "xn--",
		"\u212a.example":                "xn--", // the Kelvin sign folds to k, and is not ASCII
		"app.example.com.":              "between dots",
		".example.com":                  "between dots",
		"app..example.com":              "between dots",
		strings.Repeat("x", 64) + ".a":  "between dots",
		strings.Repeat("x.", 127) + "a": "253",
		"app.example.com:":              "port",
		"app.example.com:0":             "port",
		"app.example.com:65536":         "port",
		"app.example.com:-1":            "port",
		"app.example.com:+1":            "port",
		"app.example.com:https":         "port",
		"app.example.com:*":             "port",
		":443":                          "between dots",
		"::1":                           "brackets",
		"2001:db8::1":                   "brackets",
		"[::1":                          "IPv6",
		"[]":                            "IPv6",
		"[::1]x":                        "IPv6",
		"[::1%25eth0]":                  "IPv6",
		"[192.0.2.1]":                   "IPv6",
		"[v1.x]":                        "IPv6",
		"[::1]:x":                       "port",
		"192.0.2":                       "IPv4",
		"192.0.2.256":                   "IPv4",
		"192.0.2.01":                    "IPv4",
		"192.0.2.0x1":                   "IPv4",
		"3221225985":                    "IPv4",
		"*.192.0.2.1":                   "IPv4",
		"*.1":                           "IPv4",
	} {
		o, err := ParseOrigin(rule)
		if err == nil {
			t.Errorf("%q: got %+v, want an error", rule, o)
		} else if !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), "not a host with an optional port") {
			t.Errorf("%q %v; want an error with %q", rule, err, cause)
		}
	}
}

// FuzzOrigins checks that every valid rule admits the origin of a page on its host.
func FuzzOrigins(f *testing.F) {
	for _, c := range originRules {
		f.Add(c.rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		o, err := ParseOrigin(rule)
		if err != nil {
			return
		}
		value := "https://" + strings.Replace(strings.ToLower(rule), "*", "a", 1)
		if rule = strings.ToLower(rule); rule == "null" {
			value = "null"
		}
		in := sample().and("Origin: " + value).wire()
		cfg := usual()
		cfg.AnyOrigin, cfg.Origins = false, []Origin{o}
		c := newConnection(t, cfg)
		if output := string(c.arrive(in, true)); !strings.HasPrefix(output, "HTTP/1.1 101 ") {
			t.Errorf("%q does not admit %q: %q", rule, value, output)
		}
		if o.port != 0 {
			return
		}
		if r, err := http.NewRequest("GET", value, nil); err == nil && rule != "null" && r.URL.Hostname() == "" {
			t.Errorf("net/url finds no host in %q", value)
		}
	})
}

// FuzzHosts compares isAuthority with net/netip for hosts in brackets.
func FuzzHosts(f *testing.F) {
	for _, host := range []string{"a", "[::]", "[::1]", "[1::]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[::2:3:4:5:6:7:8]", "[1:2:3:4:5:6:1.2.3.4]",
		"[::1.2.3.4]", "[1::1.2.3.4]", "[1:2:3:4:5:6:7:1.2.3.4]", "[1::2::3]", "[:::]", "[1:]", "[:1]", "[12345::]", "[1:2:3:4:5:6:7:8:9]",
		"[1:2:3:4::5:6:7:8]", "[fe80::1%25eth0]", "[v1.a]", "[1.2.3.4]", "[::1.2.3]", "[::01.2.3.4]", "[::256.2.3.4]", "[::1.2.3.4.5]", "[::1.2.3.4:5]", "[1:1.2.3.4]"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		inside, isLiteral := strings.CutPrefix(host, "[")
		inside, closed := strings.CutSuffix(inside, "]")
		if !isLiteral || !closed || strings.ContainsAny(inside, "[]%vV") {
			_, port, ok := splitAuthority([]byte(host))
			if ok && !strings.HasSuffix(host, string(port)) {
				t.Errorf("%q: got the port %q, want the end of the text", host, port)
			}
			return
		}
		addr, err := netip.ParseAddr(inside)
		if want := err == nil && addr.Is6(); isAuthority([]byte(host)) != want {
			t.Errorf("%q is an authority: got %t, want %t", host, !want, want)
		}
	})
}
