package echo

import "bytes"

// request is the head of an HTTP/1.1 request (RFC 9112), as far as a WebSocket
// handshake looks at it. Its slices are parts of the head.
type request struct {
	line []byte // without its line end

	host, version, key, origin field

	upgrade, connection list

	body bool // the request announces one
}

// field is a header field that may stand in a request once.
type field struct {
	value []byte
	seen  int
}

// list is a header field whose value is a comma-separated list, which may be
// spread over several lines (RFC 9110, section 5.3). We look for one member.
type list struct {
	seen bool // the field is there
	has  bool // and has the member
}

// endOfHead is the length of the request head at the front of p, blank line
// included; 0 if it has not arrived whole. The first skip bytes are known not to contain its end.
func endOfHead(p []byte, skip int) int {
	for i := skip; ; {
		nl := bytes.IndexByte(p[i:], '\n')
		if nl < 0 {
			return 0
		}
		i += nl + 1
		switch rest := p[i:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
}

// emptyLines is the length of the line ends at the front of p, which a server
// ignores before a request (RFC 9112, section 2.2). A CR is one with the LF
// behind it, or with what has not arrived, and never by itself.
func emptyLines(p []byte) int {
	n := 0
	for n < len(p) {
		switch rest := p[n:]; {
		case rest[0] == '\n', len(rest) == 1 && rest[0] == '\r':
			n++
		case rest[0] == '\r' && rest[1] == '\n':
			n += 2
		default:
			return n
		}
	}
	return n
}

// checkBeginning looks at the method, as far as it has arrived, and at the
// request line once it is whole. What talks TLS, or something else altogether, to
// this port is told so then, and does not wait for a timeout.
func checkBeginning(p []byte) *Refusal {
	line, _, whole := bytes.Cut(p, []byte{'\n'})
	method, rest, _ := bytes.Cut(line, []byte{' '})
	if !isToken(method) && len(p) > 0 {
		return refuseGarbage
	}
	if _, version, _ := bytes.Cut(rest, []byte{' '}); whole && !isVersion(bytes.TrimSuffix(version, []byte{'\r'})) {
		return refuseRequestLine
	}
	return nil
}

// eachLine calls f with every line of a request head but the blank one that
// ends it, until f refuses. A line ends with CRLF, or LF alone (RFC 9112, section 2.2).
func eachLine(head []byte, f func(line []byte) *Refusal) *Refusal {
	for {
		line, rest, _ := bytes.Cut(head, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			return nil
		}
		if r := f(line); r != nil {
			return r
		}
		head = rest
	}
}

// splitField parts a header field into name and value (RFC 9112, section 5).
// There is no space before the colon, and no line continues the one before:
// both are how requests are smuggled past proxies, and must be refused.
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

// note takes one header field into the request.
func (r *request) note(name, value []byte) {
	switch {
	case is(name, "host"):
		r.host.note(value)
	case is(name, "upgrade"):
		r.upgrade.note(value, "websocket")
	case is(name, "connection"):
		r.connection.note(value, "upgrade")
	case is(name, "sec-websocket-version"):
		r.version.note(value)
	case is(name, "sec-websocket-key"):
		r.key.note(value)
	case is(name, "origin"):
		r.origin.note(value)
	case is(name, "content-length"):
		r.body = r.body || !is(value, "0")
	case is(name, "transfer-encoding"):
		r.body = true
	}
}

func (f *field) note(value []byte) {
	f.value = value
	f.seen++
}

func (l *list) note(value []byte, member string) {
	l.seen = true
	for len(value) > 0 && !l.has {
		var item []byte
		item, value, _ = bytes.Cut(value, []byte{','})
		l.has = is(bytes.Trim(item, " \t"), member)
	}
}

// is compares without case. The conversion does not allocate.
func is(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}

// isToken says whether p is a token (RFC 9110, section 5.6.2).
func isToken(p []byte) bool {
	for _, c := range p {
		if !isAlphanumeric(c) && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) < 0 {
			return false
		}
	}
	return len(p) > 0
}

// isTokenList says whether p is a list of tokens; members may be empty, for a
// recipient (RFC 9110, section 5.6.1).
func isTokenList(p []byte) bool {
	for more := true; more; {
		var item []byte
		item, p, more = bytes.Cut(p, []byte{','})
		if item = bytes.Trim(item, " \t"); len(item) > 0 && !isToken(item) {
			return false
		}
	}
	return true
}

// isTarget says whether p may be the target of a handshake: a path or an
// absolute HTTP URI (RFC 6455, section 4.2.1), never with a fragment (section
// 3). That a client says ws for http is no reason to turn it away.
func isTarget(p []byte) bool {
	for _, c := range p {
		if c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	scheme, rest, _ := bytes.Cut(p, []byte("://"))
	absolute := is(scheme, "http") || is(scheme, "https") || is(scheme, "ws") || is(scheme, "wss")
	return len(p) > 0 && p[0] == '/' || absolute && len(rest) > 0
}

// isAuthority says whether p is a host with or without a port (RFC 9110,
// section 7.2). What it names is nobody's business: any name is served.
func isAuthority(p []byte) bool {
	host, port := p, []byte(nil)
	if i := bytes.LastIndexByte(p, ':'); i > bytes.LastIndexByte(p, ']') {
		host, port = p[:i], p[i+1:]
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	also := "-._~%!$&'()*+,;="
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host, also = host[1:len(host)-1], "-._~%:"
	}
	for _, c := range host {
		if !isAlphanumeric(c) && bytes.IndexByte([]byte(also), c) < 0 {
			return false
		}
	}
	return len(host) > 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isVersion says whether p is "HTTP/" DIGIT "." DIGIT (RFC 9112, section 2.3).
func isVersion(p []byte) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(p) == len("HTTP/1.1") && bytes.HasPrefix(p, []byte("HTTP/")) && digit(p[5]) && p[6] == '.' && digit(p[7])
}
