package echo

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// An Origin is a rule that admits origins of web pages (RFC 6454): one host, or every host below a
// domain, with one port or with any. The scheme does not matter.
type Origin struct {
	text   string     // the argument of ParseOrigin, in lower case
	host   string     // without port, in lower case; with its leading dot if it is a domain
	domain bool       // host is a domain: every host below it is admitted, at any depth
	addr   netip.Addr // the host, if it is an IPv6 address
	port   int        // 0: any
}

// opaque is the Origin that browsers send for pages without an origin, such as sandboxed pages and
// local files (RFC 6454, section 7.1).
const opaque = "null"

// String returns the rule in lower case.
func (o Origin) String() string { return o.text }

// ParseOrigin parses a rule: host[:port], *.domain[:port] or "null". Case does not matter. A rule
// that no Origin field of a browser can match is an error.
func ParseOrigin(text string) (Origin, error) {
	isASCII := !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
	o, err := parseOrigin(strings.ToLower(text))
	if !isASCII {
		err = errors.New("a name that is not ASCII must be written as browsers send it, in the form xn--…")
	}
	if err != nil {
		return Origin{}, fmt.Errorf("is not a host with an optional port, such as example.com, *.example.com or [2001:db8::1]:8080: %w", err)
	}
	return o, nil
}

func parseOrigin(text string) (Origin, error) {
	o := Origin{text: text, host: text}
	switch {
	case text == opaque:
		return o, nil
	case strings.Contains(text, "://"):
		return o, errors.New("it has a scheme")
	case strings.ContainsAny(text, "/?#"):
		return o, errors.New("it has a path")
	case strings.Contains(text, "@"):
		return o, errors.New("it has user information")
	}
	if strings.Count(text, ":") > 1 && !strings.Contains(text, "[") {
		return o, errors.New("an IPv6 address must be in brackets")
	}
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, ']') {
		var ok bool
		if o.port, ok = portNumber([]byte(text[i+1:])); !ok || o.port == 0 {
			return o, fmt.Errorf("port %q is not a number from 1 to 65535", text[i+1:])
		}
		o.host = text[:i]
	}
	if inside, ok := strings.CutPrefix(o.host, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		addr, err := netip.ParseAddr(inside)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return o, errors.New("the brackets must contain an IPv6 address without a zone")
		}
		o.addr = addr
		return o, nil
	}
	name, isDomain := strings.CutPrefix(o.host, "*.")
	if isDomain {
		o.host, o.domain = o.host[1:], true
	}
	return o, checkHostName(name, isDomain)
}

// checkHostName checks a host name or an IPv4 address. It is stricter than RFC 3986: a browser
// sends neither percent-encoding nor characters that need it, and writes an IPv4 address as four
// decimal numbers.
func checkHostName(name string, isDomain bool) error {
	const longestName, longestLabel = 253, 63 // RFC 1035, section 2.3.4, without the root label
	if strings.Contains(name, "*") {
		return errors.New(`"*" may only be the first label, as in *.example.com; "any" admits every origin`)
	}
	for _, c := range []byte(name) {
		if !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("a host name cannot contain %q", c)
		}
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > longestLabel {
			return fmt.Errorf("each part between dots must have 1 to %d characters", longestLabel)
		}
	}
	if len(name) > longestName {
		return fmt.Errorf("it is longer than %d characters", longestName)
	}
	// Browsers parse a name that ends in a number as an IPv4 address.
	if isNumber(label) {
		if addr, err := netip.ParseAddr(name); isDomain || err != nil || !addr.Is4() {
			return errors.New("it ends in a number but is not an IPv4 address")
		}
	}
	return nil
}

// isNumber reports whether a browser parses a label as a number: decimal, or hexadecimal after 0x.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// admits reports whether the rule admits an origin.
func (o *Origin) admits(s *serializedOrigin) bool {
	switch {
	case s.opaque || o.text == opaque:
		return s.opaque && o.text == opaque
	case o.port != 0 && o.port != s.port:
		return false
	case o.addr.IsValid():
		return o.addr == s.addr
	case o.domain:
		n := len(s.host) - len(o.host)
		return n > 0 && s.host[n-1] != '.' && equalFold(s.host[n:], o.host)
	}
	return equalFold(s.host, o.host)
}

// serializedOrigin is the value of an Origin field (RFC 6454, section 6.2).
type serializedOrigin struct {
	opaque bool
	host   []byte
	addr   netip.Addr // the host, if it is an IPv6 address
	port   int        // the default of the scheme if the value has none; 0: unknown
}

// parseSerializedOrigin parses "null" or scheme://host[:port]. RFC 6454 also allows a list of
// origins. No browser sends one, and parseSerializedOrigin does not accept it.
func parseSerializedOrigin(p []byte) (s serializedOrigin, ok bool) {
	if string(p) == opaque {
		return serializedOrigin{opaque: true}, true
	}
	scheme, authority, found := bytes.Cut(p, []byte("://"))
	host, port, ok := splitAuthority(authority)
	if !found || !ok || !isScheme(scheme) {
		return s, false
	}
	s.host = host
	switch {
	case len(port) > 0:
		s.port, _ = portNumber(port)
	case equalFold(scheme, "http"), equalFold(scheme, "ws"):
		s.port = 80
	case equalFold(scheme, "https"), equalFold(scheme, "wss"):
		s.port = 443
	}
	if host[0] == '[' {
		s.addr, _ = netip.ParseAddr(string(host[1 : len(host)-1]))
	}
	return s, true
}
