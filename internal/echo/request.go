package echo

import (
	"bytes"
	"strings"
)

// request holds the parts of an HTTP/1.1 request head (RFC 9112) that matter to a WebSocket
// handshake. Its slices are parts of the head.
type request struct {
	line []byte // without its line end

	host, version, key, origin field

	upgrade, connection list

	subprotocols, extensions int // number of Sec-WebSocket-Protocol and -Extensions fields

	body bool // the request announces a body
}

// field is a header field that may occur at most once in a request.
type field struct {
	value []byte // of the last one
	seen  int    // number of fields
}

// list is a header field whose value is a comma-separated list, which may be spread over several
// lines (RFC 9110, section 5.3). The handshake requires one certain member.
type list struct {
	seen      bool // the field is present
	has       bool // the list has the required member
	malformed bool // a member breaks the grammar
}

// endOfHead returns the length of the request head at the front of p, blank line included, or 0 if
// the head is incomplete. The caller knows that the end is not within the first skip bytes.
func endOfHead(p []byte, skip int) int {
	for i := skip; ; {
		nl := bytes.IndexByte(p[i:], '\n')
		if nl < 0 {
			return 0
		}
		i += nl + 1
		switch after := p[i:]; {
		case len(after) > 0 && after[0] == '\n':
			return i + 1
		case len(after) > 1 && after[0] == '\r' && after[1] == '\n':
			return i + 2
		}
	}
}

// emptyLines returns the length of the empty lines at the front of p, which a server ignores before
// a request (RFC 9112, section 2.2). A CR counts if an LF follows, or if it is the last byte of p,
// since the LF may still arrive.
func emptyLines(p []byte) int {
	n := 0
	for n < len(p) {
		switch after := p[n:]; {
		case after[0] == '\n', len(after) == 1 && after[0] == '\r':
			n++
		case after[0] == '\r' && after[1] == '\n':
			n += 2
		default:
			return n
		}
	}
	return n
}

// checkBeginning checks the part of the method that has arrived, and the request line once it is
// complete. A client that uses another protocol is thus refused at once, and does not have to wait
// for a timeout. The first empty bytes of p are empty lines.
func checkBeginning(p []byte, empty int) *Refusal {
	line, _, whole := bytes.Cut(p[empty:], []byte{'\n'})
	method, after, _ := bytes.Cut(line, []byte{' '})
	if !isToken(method) && len(p) > empty {
		switch {
		case p[0] == tlsHandshake:
			return refuseTLS
		case bytes.HasPrefix(p, []byte(proxy2)):
			return refuseProxy
		}
		return refuseGarbage
	}
	if _, version, _ := bytes.Cut(after, []byte{' '}); whole && !isVersion(bytes.TrimSuffix(version, []byte{'\r'})) {
		if string(method) == "PROXY" {
			return refuseProxy
		}
		return refuseRequestLine
	}
	return nil
}

// The first bytes of protocols other than HTTP/1.1. A request is refused at its first invalid byte,
// so the first two constants end with that byte.
const (
	tlsHandshake = 0x16             // the content type of a ClientHello (RFC 8446, section 5.1)
	proxy2       = "\r\n\r\n\x00"   // PROXY protocol, version 2; its signature continues with "\r\nQUIT\n"
	http2        = "PRI * HTTP/2.0" // RFC 9113, section 3.4; a valid request line
)

// eachLine calls f with every line of a request head except the blank one at its end. It stops at
// the first refusal that f returns, and returns it. A line ends with CRLF, or with LF alone (RFC
// 9112, section 2.2).
func eachLine(head []byte, f func(line []byte) *Refusal) *Refusal {
	for {
		line, after, _ := bytes.Cut(head, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			return nil
		}
		if r := f(line); r != nil {
			return r
		}
		head = after
	}
}

// splitField splits a header field into its name and value (RFC 9112, section 5). It accepts
// neither a space before the colon nor a line that continues the previous one. Both make request
// smuggling past proxies possible, and a server must refuse them (RFC 9112, sections 5.1 and 5.2).
func splitField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	if !ok || !isToken(name) {
		return nil, nil, false
	}
	value = bytes.Trim(value, " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

// note records a header field.
func (r *request) note(name, value []byte) {
	switch {
	case equalFold(name, "host"):
		r.host.note(value)
	case equalFold(name, "upgrade"):
		r.upgrade.note(value, "websocket", isProtocol)
	case equalFold(name, "connection"):
		r.connection.note(value, "upgrade", isToken)
	case equalFold(name, "sec-websocket-version"):
		r.version.note(value)
	case equalFold(name, "sec-websocket-key"):
		r.key.note(value)
	case equalFold(name, "sec-websocket-protocol"):
		r.subprotocols++
	case equalFold(name, "sec-websocket-extensions"):
		r.extensions++
	case equalFold(name, "origin"):
		r.origin.note(value)
	case equalFold(name, "content-length"):
		r.body = r.body || len(value) == 0 || len(bytes.Trim(value, "0")) > 0
	case equalFold(name, "transfer-encoding"):
		r.body = true
	}
}

func (f *field) note(value []byte) {
	f.value = value
	f.seen++
}

func (l *list) note(value []byte, member string, valid func([]byte) bool) {
	l.seen = true
	for more := true; more; {
		var item []byte
		item, value, more = cutMember(value)
		l.has = l.has || equalFold(item, member)
		l.malformed = l.malformed || len(item) > 0 && !valid(item)
	}
}

// cutMember splits a comma-separated list after its first member. Members may be empty, as a
// recipient must accept (RFC 9110, section 5.6.1).
func cutMember(p []byte) (member, after []byte, more bool) {
	member, after, more = bytes.Cut(p, []byte{','})
	return bytes.Trim(member, " \t"), after, more
}

// equalFold reports whether name equals lower without regard to case. The conversion to []byte does
// not allocate.
func equalFold(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}

// isToken reports whether p is a token (RFC 9110, section 5.6.2).
func isToken(p []byte) bool {
	for _, c := range p {
		if !isTokenByte(c) {
			return false
		}
	}
	return len(p) > 0
}

func isTokenByte(c byte) bool {
	return isAlphanumeric(c) || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

// isProtocol reports whether p is a protocol name with an optional version, as in Upgrade (RFC
// 9110, section 7.8).
func isProtocol(p []byte) bool {
	name, version, found := bytes.Cut(p, []byte{'/'})
	return isToken(name) && (!found || isToken(version))
}

// checkTarget checks the request target of a handshake: a path or an absolute HTTP URI (RFC 6455,
// section 4.2.1), without a fragment (section 3). It also accepts the schemes ws and wss, and in
// path and query bytes that a URI must encode, since many clients send them. In the path, two
// hexadecimal digits must follow a "%", as net/http requires, too.
func checkTarget(p []byte) *Refusal {
	for _, c := range p {
		if c <= ' ' || c == 0x7f || c == '#' {
			return refuseTarget
		}
	}
	if len(p) == 0 || p[0] != '/' {
		scheme, after, found := bytes.Cut(p, []byte("://"))
		if !found || !equalFold(scheme, "http") && !equalFold(scheme, "https") && !equalFold(scheme, "ws") && !equalFold(scheme, "wss") {
			return refuseTarget
		}
		end := bytes.IndexAny(after, "/?")
		if end < 0 {
			end = len(after)
		}
		// RFC 9110, section 4.2.1: an empty host is invalid. Section 4.2.4: user information is an
		// error.
		if !isAuthority(after[:end]) {
			return refuseTargetHost
		}
		p = after[end:]
	}
	path, _, _ := bytes.Cut(p, []byte{'?'})
	if !isEncoded(path) {
		return refuseTarget
	}
	return nil
}

// isScheme reports whether p is the scheme of a URI (RFC 3986, section 3.1).
func isScheme(p []byte) bool {
	for i, c := range p {
		if !isAlphanumeric(c) && (i == 0 || bytes.IndexByte([]byte("+-."), c) < 0) {
			return false
		}
	}
	return len(p) > 0 && (p[0] < '0' || p[0] > '9')
}

// isAuthority reports whether p is a host with an optional port.
func isAuthority(p []byte) bool {
	_, _, ok := splitAuthority(p)
	return ok
}

// splitAuthority splits an authority into its host and its port, which may be missing or empty (RFC
// 3986, section 3.2). The host must not be empty, and user information is not allowed (RFC 9110,
// section 7.2). The server accepts every host name.
func splitAuthority(p []byte) (host, port []byte, ok bool) {
	host = p
	if i := bytes.LastIndexByte(p, ':'); i > bytes.LastIndexByte(p, ']') {
		host, port = p[:i], p[i+1:]
	}
	if _, ok := portNumber(port); !ok {
		return nil, nil, false
	}
	if len(host) > 0 && host[0] == '[' {
		last := len(host) - 1
		return host, port, host[last] == ']' && isIPLiteral(host[1:last])
	}
	return host, port, len(host) > 0 && isEncoded(host) && consistsOf(host, unreserved+subDelims+"%")
}

// portNumber returns the value of the digits of a port, or 0 if there are none. It returns false if
// a byte is not a digit, or if the value is above 65535.
func portNumber(digits []byte) (n int, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = 10*n + int(c-'0'); n > 0xffff {
			return 0, false
		}
	}
	return n, true
}

// RFC 3986, sections 2.2 and 2.3. Letters and digits are unreserved as well.
const (
	unreserved = "-._~"
	subDelims  = "!$&'()*+,;="
)

// consistsOf reports whether p contains only letters, digits and the bytes of others.
func consistsOf(p []byte, others string) bool {
	for _, c := range p {
		if !isAlphanumeric(c) && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// isEncoded reports whether every "%" in p begins two hexadecimal digits (RFC 3986, section 2.1).
func isEncoded(p []byte) bool {
	for {
		i := bytes.IndexByte(p, '%')
		if i < 0 {
			return true
		}
		if len(p) < i+3 || !isHex(p[i+1]) || !isHex(p[i+2]) {
			return false
		}
		p = p[i+3:]
	}
}

// isIPLiteral reports whether p may be a host between brackets: an IPv6 address, with or without a
// zone (RFC 6874), or an address of a future version (RFC 3986, section 3.2.2).
func isIPLiteral(p []byte) bool {
	if len(p) > 0 && p[0]|0x20 == 'v' {
		version, address, _ := bytes.Cut(p[1:], []byte{'.'})
		for _, c := range version {
			if !isHex(c) {
				return false
			}
		}
		return len(version) > 0 && len(address) > 0 && consistsOf(address, unreserved+subDelims+":")
	}
	address, zone, hasZone := bytes.Cut(p, []byte("%25"))
	if hasZone && (len(zone) == 0 || !isEncoded(zone) || !consistsOf(zone, unreserved+"%")) {
		return false
	}
	return isIPv6(address)
}

// isIPv6 reports whether p is an IPv6 address: eight groups of one to four hexadecimal digits. A
// double colon replaces one or more groups, and an IPv4 address may replace the last two. Unlike
// netip.ParseAddr, isIPv6 does not allocate.
func isIPv6(p []byte) bool {
	groups, compressed := 0, false
	if bytes.HasPrefix(p, []byte("::")) {
		p, compressed = p[2:], true
	}
	for len(p) > 0 {
		n := 0
		for n < len(p) && isHex(p[n]) {
			n++
		}
		switch {
		case n < len(p) && p[n] == '.':
			groups += 2
			return isIPv4(p) && groups <= 8 && (groups == 8) != compressed
		case n == 0 || n > 4:
			return false
		}
		groups++
		if p = p[n:]; len(p) == 0 {
			break
		}
		if p[0] != ':' || len(p) == 1 {
			return false
		}
		if p = p[1:]; p[0] == ':' {
			if compressed {
				return false
			}
			p, compressed = p[1:], true
		}
	}
	return groups <= 8 && (groups == 8) != compressed
}

// isIPv4 reports whether p is four numbers up to 255, without leading zeros, between dots.
func isIPv4(p []byte) bool {
	for i := range 4 {
		number, after, more := bytes.Cut(p, []byte{'.'})
		n, ok := portNumber(number)
		if !ok || n > 255 || len(number) == 0 || len(number) > 1 && number[0] == '0' || more != (i < 3) {
			return false
		}
		p = after
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// isVersion reports whether p is "HTTP/" DIGIT "." DIGIT (RFC 9112, section 2.3).
func isVersion(p []byte) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(p) == len("HTTP/1.1") && bytes.HasPrefix(p, []byte("HTTP/")) && digit(p[5]) && p[6] == '.' && digit(p[7])
}
