package echo

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// An opening is the request of an opening handshake.
type opening struct {
	line   string
	fields []string
	eol    string
}

// sample returns the request of RFC 6455, section 1.2.
func sample() opening {
	return opening{
		line: "GET /chat HTTP/1.1",
		fields: []string{
			"Host: server.example.com",
			"Upgrade: websocket",
			"Connection: Upgrade",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Version: 13",
		},
		eol: "\r\n",
	}
}

func (o opening) wire() []byte {
	return []byte(o.line + o.eol + strings.Join(append(o.fields, "", ""), o.eol))
}

func asking(line string) opening {
	o := sample()
	o.line = line
	return o
}

// with returns the opening with additional fields, which replace existing fields of the same name.
func (o opening) with(fields ...string) opening {
	for _, f := range fields {
		name, _, _ := strings.Cut(f, ":")
		o = o.without(name)
	}
	return o.and(fields...)
}

// and returns the opening with additional fields. Existing fields of the same name stay.
func (o opening) and(fields ...string) opening {
	o.fields = append(append([]string(nil), o.fields...), fields...)
	return o
}

func (o opening) without(name string) opening {
	var others []string
	for _, f := range o.fields {
		if n, _, _ := strings.Cut(f, ":"); !strings.EqualFold(n, name) {
			others = append(others, f)
		}
	}
	o.fields = others
	return o
}

func (o opening) ending(eol string) opening {
	o.eol = eol
	return o
}

// long returns the opening with a field that makes it n bytes long.
func (o opening) long(n int) opening {
	pad := n - len(o.and("X: ").wire())
	return o.and("X: " + strings.Repeat("x", pad))
}

func TestUpgrade(t *testing.T) {
	var rules []rule
	for _, c := range []struct {
		name  string
		sends sendable
		want  []string // header fields of the response
	}{
		{"the sample request is accepted (1.3)", sample(), nil},
		{"field names are matched without case (RFC 9110, 5.1)", sample().with(
			"hOST: a", "UPGRADE: websocket", "connection: Upgrade", "sec-websocket-version: 13", "sEC-wEBsOCKET-kEY: dGhlIHNhbXBsZSBub25jZQ=="), nil},
		{"the token websocket is matched without case (4.2.1, item 3)", sample().with("Upgrade: WebSocket"), nil},
		{"the token Upgrade is matched without case (4.2.1, item 4)", sample().with("Connection: uPGRADE"), nil},
		{"Connection is a list (RFC 9110, 7.6.1)", sample().with("Connection: keep-alive, Upgrade"), nil},
		{"Connection is a list, in any order", sample().with("Connection: upgrade,keep-alive"), nil},
		{"a list may have empty members (RFC 9110, 5.6.1)", sample().with("Connection: ,,\t, upgrade ,"), nil},
		{"a list may be spread over lines (RFC 9110, 5.3)", sample().with("Connection: keep-alive").and("Connection: TE, Upgrade"), nil},
		{"a list may be spread over lines, in any order", sample().with("Connection: Upgrade").and("Connection: keep-alive"), nil},
		{"Upgrade is a list (RFC 9110, 7.8)", sample().with("Upgrade: h2c, websocket"), nil},
		{"Upgrade may be spread over lines", sample().with("Upgrade: h2c").and("Upgrade: WebSocket"), nil},
		{"fields come in any order (4.1)", opening{"GET / HTTP/1.1", []string{"Sec-WebSocket-Version: 13",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Connection: Upgrade", "Upgrade: websocket", "Host: a"}, "\r\n"}, nil},
		{"space around a value is ignored (RFC 9112, 5.1)", sample().with("Upgrade:websocket", "Sec-WebSocket-Version: \t 13\t "), nil},
		{"other fields are ignored", sample().and("Cookie: a=\"b, c\"; d", "User-Agent: \x80\xff", "Pragma:", "Content-Length: 0"), nil},
		{"any path and query are accepted", asking("GET /a/b%20c/?d=e&f=/?://[]{}|\\^`\xc3\xa4 HTTP/1.1"), nil},
		{"a target may be an absolute URI (4.2.1, item 1)", asking("GET http://server.example.com/chat HTTP/1.1"), nil},
		{"a target may be an absolute ws URI", asking("GET ws://server.example.com:80/chat?a HTTP/1.1"), nil},
		{"a later minor version of HTTP is accepted (4.2.1, item 1)", asking("GET / HTTP/1.2"), nil},
		{"Host may have a port (RFC 9110, 7.2)", sample().with("Host: server.example.com:8080"), nil},
		{"Host may have an empty port (RFC 3986, 3.2.3)", sample().with("Host: localhost:"), nil},
		{"Host may be IPv6 (RFC 3986, 3.2.2)", sample().with("Host: [::1]:8080"), nil},
		{"Host may be IPv6 without port", sample().with("Host: [fe80::1%25eth0]"), nil},
		{"Host may be IPv6 that ends with IPv4", sample().with("Host: [::ffff:192.0.2.1]:80"), nil},
		{"Host may be an IP address of a future version", sample().with("Host: [v1.a:b]"), nil},
		{"Host may be percent-encoded", sample().with("Host: b%C3%BCcher.example"), nil},
		{"Host may have the highest port, and leading zeros", sample().with("Host: a:0065535"), nil},
		{"Host is not compared with an absolute URI (RFC 9112, 3.2.2)", asking("GET http://a/ HTTP/1.1").with("Host: b"), nil},
		{"an absolute URI may have no path", asking("GET http://a HTTP/1.1"), nil},
		{"an absolute URI may have a query and no path", asking("GET wss://[::1]:443?a HTTP/1.1"), nil},
		{"an absolute URI may have an empty port (RFC 3986, 3.2.3)", asking("GET HTTP://a:/ HTTP/1.1"), nil},
		{"a path may begin with two slashes (RFC 9112, 3.2.1)", asking("GET //a@b:c/d HTTP/1.1"), nil},
		{"a body of no bytes, in any number of digits", sample().and("Content-Length: 000"), nil},
		{"protocols in Upgrade may have a version (RFC 9110, 7.8)", sample().with("Upgrade: HTTP/2.0, foo/1, websocket"), nil},
		{"lists may contain tabs as space (RFC 9110, 5.6.3)", sample().with("Connection:\tkeep-alive\t,\tUpgrade\t", "Upgrade: h2c\t,\twebsocket"), nil},
		{"Host may be IPv4", sample().with("Host: 127.0.0.1:8080"), nil},
		{"a key may have unused bits set in its last digit, as in the RFC's example (4.1, item 7)",
			sample().with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=="), []string{"Sec-WebSocket-Accept: OfS0wDaT5NoxF2gqm7Zj2YtetzM="}},
		{"an empty line before the request is ignored (RFC 9112, 2.2)", raw("\r\n" + string(sample().wire())), nil},
		{"empty lines before the request are ignored", raw("\n\r\n\r\n\n" + string(sample().wire())), nil},
		{"lines may end with LF alone (RFC 9112, 2.2)", sample().ending("\n"), nil},
		{"line ends may be mixed", raw(strings.Replace(string(sample().wire()), "\r\n", "\n", 3)), nil},
		{"the last line end may be LF alone", raw(strings.TrimSuffix(string(sample().wire()), "\r\n") + "\n"), nil},
		{"a request may be as long as MaxHeader", sample().long(8 << 10), nil},
		{"a request may have one line that is almost as long as MaxHeader", asking("GET /" + strings.Repeat("x", 7<<10) + " HTTP/1.1"), nil},
		{"an offer of extensions is declined by leaving it out of the response (9.1)",
			sample().and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y=1; z=\"2\""), nil},
		{"offers of extensions on several lines are declined as well",
			sample().and("Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: mux; max-channels=4; flow-control, deflate-stream"), nil},
		{"tabs may surround extensions, parameters and values (RFC 2616, 2.1)",
			sample().and("Sec-WebSocket-Extensions:\tx\t;\ty\t=\t1\t,\tz; a=\"b\"\t"), nil},
		{"one of several fields of extensions may be empty (RFC 9110, 5.3)",
			sample().and("Sec-WebSocket-Extensions:", "Sec-WebSocket-Extensions: x"), nil},
		{"the response to the shortest request fits in front of the frames that follow", tersest, nil},
	} {
		rules = append(rules, rule{name: c.name, fresh: true, talk: func(p *peer) {
			p.sends(c.sends)
			p.wantsUpgrade(c.name, c.want...)
			p.wantsOpen("the handshake leads to Open")
		}})
	}
	rules = append(rules, rule{name: "frames in the same segment as the request are answered (4.2.2)", fresh: true, talk: func(p *peer) {
		p.sends(sample(), text("early"), ping("bird"), first(1, "wo"), last("rm"), closing(1000, "bye"))
		p.wantsUpgrade("the response comes first")
		p.wantsText("early", "the server accepts frames as soon as the request is complete")
		p.wantsPong("bird", "a ping")
		p.wantsFrame(1, false, "wo", "a first fragment")
		p.wantsFrame(0, true, "rm", "a last fragment")
		p.wantsFrame(8, true, "\x03\xe8bye", "a close frame")
		p.wantsEnd(1000, "closed")
	}}, rule{name: "a frame after the shortest request is answered after the response", fresh: true, talk: func(p *peer) {
		p.sends(tersest, ping(""))
		p.wantsUpgrade("the response is longer than the request")
		p.wantsPong("", "the pong follows")
	}}, rule{name: "an invalid frame in the same segment as the request fails the connection (7.1.7)", fresh: true, talk: func(p *peer) {
		p.sends(sample(), text("early"), frame{op: 3, fin: true})
		p.wantsUpgrade("the request is valid")
		p.wantsText("early", "the first frame is valid")
		p.wantsFailure(1002, "the second frame is not")
	}}, rule{name: "the server sends nothing before the request is complete", fresh: true, talk: func(p *peer) {
		w := string(sample().wire())
		p.sends(raw(w[:len(w)-1]))
		p.wantsNothing("the last byte is missing")
		p.sends(raw(w[len(w)-1:]))
		p.wantsUpgrade("the request is complete")
	}})
	converse(t, rules)
}

// tersest is the shortest request that leads to a WebSocket.
var tersest = opening{"GET / HTTP/1.1", []string{"Host:a", "Upgrade:websocket", "Connection:upgrade",
	"Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version:13"}, "\n"}

func TestRefusals(t *testing.T) {
	const bad = http.StatusBadRequest
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}
	get := []string{"Allow: GET"}
	var rules []rule
	for _, c := range []struct {
		name   string
		sends  sendable
		status int
		want   []string // header fields of the response
	}{
		{"POST (4.2.1, item 1)", asking("POST /chat HTTP/1.1"), 405, get},
		{"POST with a body (RFC 9110, 15.5.6)", asking("POST /chat HTTP/1.1").and("Content-Length: 5"), 405, get},
		{"PUT in chunks", asking("PUT /chat HTTP/1.1").and("Transfer-Encoding: chunked"), 405, get},
		{"HEAD, without a body (RFC 9110, 9.3.2)", asking("HEAD /chat HTTP/1.1"), 405, get},
		{"HEAD that is malformed, without a body", asking("HEAD /chat HTTP/1.1").with("Host: a b"), bad, nil},
		{"OPTIONS in asterisk-form (RFC 9112, 3.2.4)", asking("OPTIONS * HTTP/1.1"), 405, get},
		{"CONNECT (RFC 9112, 3.2.3)", asking("CONNECT example.com:80 HTTP/1.1"), 405, get},
		{"a method in lower case (RFC 9110, 9.1)", asking("get /chat HTTP/1.1"), 405, get},
		{"an unknown method", asking("B!#$%&'*+-.^_`|~REW /chat HTTP/1.1"), 405, get},
		{"POST without Host (RFC 9112, 3.2)", asking("POST / HTTP/1.1").without("Host"), bad, nil},

		{"a browser's request (RFC 9110, 15.5.22)", sample().without("Upgrade").with("Connection: keep-alive").without("Sec-WebSocket-Key").without("Sec-WebSocket-Version"), 426, upgrade},
		{"a request without fields of a handshake", opening{"GET / HTTP/1.1", []string{"Host: a"}, "\r\n"}, 426, upgrade},
		{"a plain GET with another protocol's Upgrade (RFC 9110, 7.8)", plainGet("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), 426, upgrade},
		{"a plain GET with another protocol's Upgrade, and without Connection", plainGet("Upgrade: TLS/1.0, IRC/6.9"), 426, upgrade},
		{"a plain GET with Connection: upgrade, as nginx sends it", plainGet("Connection: upgrade"), 426, upgrade},
		{"a plain GET with an empty Upgrade", plainGet("Connection: upgrade", "Upgrade:"), 426, upgrade},
		{"a plain GET with an Upgrade that is malformed", plainGet("Connection: upgrade", "Upgrade: web socket"), 426, upgrade},
		{"a plain GET with an Origin and extensions", plainGet("Connection: upgrade", "Origin: x", "Sec-WebSocket-Extensions: ;"), 426, upgrade},
		{"a handshake whose Upgrade and Connection a proxy has removed", sample().without("Upgrade").with("Connection: close"), 426, upgrade},
		{"a handshake with Upgrade to another protocol, and without Connection", sample().with("Upgrade: h2c").without("Connection"), bad, nil},
		{"a key without Upgrade", plainGet("Connection: upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), bad, nil},
		{"a version without Upgrade", plainGet("Connection: upgrade", "Sec-WebSocket-Version: 13"), bad, nil},
		{"an Upgrade to a WebSocket without other fields of a handshake (4.2.1)", plainGet("Connection: Upgrade", "Upgrade: h2c, websocket"), bad, nil},
		{"an Upgrade to a WebSocket that Connection does not name", plainGet("Connection: keep-alive", "Upgrade: websocket"), bad, nil},
		{"HTTP/1.0 with another protocol's Upgrade", asking("GET / HTTP/1.0").with("Upgrade: h2c"), bad, nil},
		{"POST with another protocol's Upgrade", asking("POST / HTTP/1.1").with("Upgrade: h2c"), 405, get},
		{"an earlier version (4.4)", sample().with("Sec-WebSocket-Version: 8"), 426, upgrade},
		{"version 0", sample().with("Sec-WebSocket-Version: 0"), 426, upgrade},
		{"a later version", sample().with("Sec-WebSocket-Version: 14"), 426, upgrade},
		{"the last possible version", sample().with("Sec-WebSocket-Version: 255"), 426, upgrade},

		{"HTTP/1.0 (4.2.1, item 1)", asking("GET /chat HTTP/1.0"), bad, nil},
		{"HTTP/1.0 without Host", asking("GET /chat HTTP/1.0").without("Host"), bad, nil},
		{"HTTP/2.0 (RFC 9110, 15.6.6)", asking("GET /chat HTTP/2.0"), 505, nil},
		{"HTTP/0.9", raw("GET /\r\n\r\n"), bad, nil},
		{"no HTTP version number (RFC 9112, 2.3)", asking("GET /chat HTTP"), bad, nil},
		{"a version in lower case", asking("GET /chat http/1.1"), bad, nil},
		{"a version of two digits", asking("GET /chat HTTP/1.10"), bad, nil},
		{"a version that is not a digit", asking("GET /chat HTTP/1.;"), bad, nil},
		{"space after the version (RFC 9112, 3)", asking("GET /chat HTTP/1.1 "), bad, nil},
		{"two spaces", asking("GET  /chat HTTP/1.1"), bad, nil},
		{"tabs for spaces (RFC 9112, 3)", asking("GET\t/chat\tHTTP/1.1"), bad, nil},
		{"a space in the target", asking("GET /chat room HTTP/1.1"), bad, nil},
		{"no target", asking("GET HTTP/1.1"), bad, nil},
		{"an empty target", asking("GET  HTTP/1.1"), bad, nil},
		{"a fragment in the target (3)", asking("GET /chat#room HTTP/1.1"), bad, nil},
		{"a target that is not a path (RFC 9112, 3.2)", asking("GET chat HTTP/1.1"), bad, nil},
		{"a target in asterisk-form", asking("GET * HTTP/1.1"), bad, nil},
		{"a target in authority-form", asking("GET example.com:80 HTTP/1.1"), bad, nil},
		{"a target without scheme (RFC 3986, 4.3)", asking("GET ://example.com/ HTTP/1.1"), bad, nil},
		{"an absolute URI without host (RFC 9110, 4.2.1)", asking("GET http:///chat HTTP/1.1"), bad, nil},
		{"an absolute URI with a query in place of the host", asking("GET http://?chat HTTP/1.1"), bad, nil},
		{"an absolute URI with only a port", asking("GET http://:80/chat HTTP/1.1"), bad, nil},
		{"an absolute URI with only a scheme", asking("GET http:// HTTP/1.1"), bad, nil},
		{"an absolute URI with a port that is not a number (RFC 3986, 3.2.3)", asking("GET http://h:x/ HTTP/1.1"), bad, nil},
		{"an absolute URI with a port above 65535", asking("GET http://h:65536/ HTTP/1.1"), bad, nil},
		{"an absolute URI with two ports", asking("GET http://h:1:2/ HTTP/1.1"), bad, nil},
		{"an absolute URI with a user (RFC 9110, 4.2.4)", asking("GET http://user@h/ HTTP/1.1"), bad, nil},
		{"an absolute URI with an empty user", asking("GET ws://@h/ HTTP/1.1"), bad, nil},
		{"an absolute URI with user and password", asking("GET wss://user:pass@h/ HTTP/1.1"), bad, nil},
		{"an absolute URI with IPv6 without brackets", asking("GET http://::1/ HTTP/1.1"), bad, nil},
		{"an absolute URI with brackets around something other than IPv6", asking("GET http://[h]/ HTTP/1.1"), bad, nil},
		{"an absolute URI with an incomplete percent-encoding in the host", asking("GET http://h%4/ HTTP/1.1"), bad, nil},
		{"an absolute URI with a host that is not ASCII", asking("GET http://b\xc3\xbccher.example/ HTTP/1.1"), bad, nil},
		{"an absolute URI with a fragment", asking("GET http://h/#a HTTP/1.1"), bad, nil},
		{"an absolute URI with one slash", asking("GET http:/h/ HTTP/1.1"), bad, nil},
		{"a path with an incomplete percent-encoding (RFC 3986, 2.1)", asking("GET /100% HTTP/1.1"), bad, nil},
		{"a path with percent-encoding that is not hexadecimal", asking("GET http://h/%zz HTTP/1.1"), bad, nil},
		{"a target of another scheme (4.2.1, item 1)", asking("GET ftp://example.com/ HTTP/1.1"), bad, nil},
		{"a target of an unknown scheme", asking("GET chat://x HTTP/1.1"), bad, nil},
		{"a control character in the target", asking("GET /ch\x01t HTTP/1.1"), bad, nil},
		{"a NUL in the target", asking("GET /ch\x00t HTTP/1.1"), bad, nil},
		{"a DEL in the target", asking("GET /ch\x7ft HTTP/1.1"), bad, nil},

		{"no Host (RFC 9112, 3.2)", sample().without("Host"), bad, nil},
		{"an empty Host (RFC 9110, 4.2.1)", sample().with("Host:"), bad, nil},
		{"Host twice (RFC 9112, 3.2)", sample().and("Host: server.example.com"), bad, nil},
		{"neither Host nor Upgrade (RFC 9112, 3.2)", opening{"GET / HTTP/1.1", []string{"Accept: */*"}, "\r\n"}, bad, nil},
		{"Host with a port above 65535", sample().with("Host: a:65536"), bad, nil},
		{"Host with a port of many digits", sample().with("Host: a:18446744073709551696"), bad, nil},
		{"Host with a port that has a sign", sample().with("Host: a:+80"), bad, nil},
		{"Host with two ports", sample().with("Host: a:80:80"), bad, nil},
		{"Host with IPv6 without brackets", sample().with("Host: ::1"), bad, nil},
		{"Host with brackets around something other than an address", sample().with("Host: [a]"), bad, nil},
		{"Host with IPv4 in brackets", sample().with("Host: [127.0.0.1]"), bad, nil},
		{"Host with text after the closing bracket", sample().with("Host: [::1]a"), bad, nil},
		{"Host with a zone that is not encoded (RFC 6874)", sample().with("Host: [fe80::1%eth0]"), bad, nil},
		{"Host with an incomplete percent-encoding in the zone", sample().with("Host: [fe80::1%25%2]"), bad, nil},
		{"Host with an address of a future version, without the version", sample().with("Host: [v.a]"), bad, nil},
		{"Host with an empty address of a future version", sample().with("Host: [v1.]"), bad, nil},
		{"Host with an empty zone", sample().with("Host: [fe80::1%25]"), bad, nil},
		{"Host with an incomplete percent-encoding", sample().with("Host: a%2"), bad, nil},
		{"Host in quotes", sample().with("Host: \"a\""), bad, nil},
		{"Host with a scheme", sample().with("Host: http://a"), bad, nil},
		{"Host with a query", sample().with("Host: a?b"), bad, nil},
		{"Host with a space", sample().with("Host: a b"), bad, nil},
		{"Host with a path", sample().with("Host: a/b"), bad, nil},
		{"Host with a user", sample().with("Host: a@b"), bad, nil},
		{"Host that is a list", sample().with("Host: a, b"), bad, nil},
		{"Host with a port that is not a number", sample().with("Host: a:b"), bad, nil},
		{"Host with only a port", sample().with("Host: :80"), bad, nil},
		{"Host with a bracket that is not closed", sample().with("Host: [::1"), bad, nil},
		{"Host with empty brackets", sample().with("Host: []"), bad, nil},
		{"Host that is not ASCII", sample().with("Host: b\xc3\xbccher.example"), bad, nil},

		{"no Upgrade (4.2.1, item 3)", sample().without("Upgrade"), bad, nil},
		{"an empty Upgrade", sample().with("Upgrade:"), bad, nil},
		{"an Upgrade to another protocol", sample().with("Upgrade: h2c"), bad, nil},
		{"an Upgrade to a protocol that begins with websocket", sample().with("Upgrade: websockets"), bad, nil},
		{"an Upgrade with a character that folds to s", sample().with("Upgrade: web\u017focket"), bad, nil},
		{"no Connection (4.2.1, item 4)", sample().without("Connection"), bad, nil},
		{"a Connection that does not name Upgrade", sample().with("Connection: keep-alive"), bad, nil},
		{"a Connection that names similar options", sample().with("Connection: upgrade-insecure, not upgrade"), bad, nil},

		{"an Upgrade with a member that is not a token", sample().with("Upgrade: websocket, a b"), bad, nil},
		{"an Upgrade with a version that is empty", sample().with("Upgrade: h2c/").and("Upgrade: websocket"), bad, nil},
		{"an Upgrade to a version of websocket", sample().with("Upgrade: websocket/13"), bad, nil},
		{"a Connection with a member that is not a token (RFC 9110, 7.6.1)", sample().with("Connection: a/b, Upgrade"), bad, nil},
		{"a Connection with a member that is not a token, on a separate line", sample().and("Connection: \"x\""), bad, nil},

		{"no key (4.2.1, item 5)", sample().without("Sec-WebSocket-Key"), bad, nil},
		{"an empty key", sample().with("Sec-WebSocket-Key:"), bad, nil},
		{"a key of 15 bytes", sample().with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P"), bad, nil},
		{"a key of 17 bytes", sample().with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBE="), bad, nil},
		{"a key of 18 bytes", sample().with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBES"), bad, nil},
		{"a key without padding", sample().with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA"), bad, nil},
		{"a key that is not base64", sample().with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!!=="), bad, nil},
		{"a key in the URL-safe alphabet of base64 (RFC 4648, 5)", sample().with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25_-Q=="), bad, nil},
		{"two keys (11.3.1)", sample().and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), bad, nil},

		{"no version (4.2.1, item 6)", sample().without("Sec-WebSocket-Version"), bad, nil},
		{"an empty version", sample().with("Sec-WebSocket-Version:"), bad, nil},
		{"a version that is not a number (4.3)", sample().with("Sec-WebSocket-Version: x"), bad, nil},
		{"a version with a leading zero (9.1)", sample().with("Sec-WebSocket-Version: 013"), bad, nil},
		{"a version above 255", sample().with("Sec-WebSocket-Version: 256"), bad, nil},
		{"a version with a sign", sample().with("Sec-WebSocket-Version: +13"), bad, nil},
		{"a version in quotes", sample().with("Sec-WebSocket-Version: \"13\""), bad, nil},
		{"a version that is a list (11.3.5)", sample().with("Sec-WebSocket-Version: 13, 8"), bad, nil},
		{"two versions (11.3.5)", sample().and("Sec-WebSocket-Version: 13"), bad, nil},
		{"two versions that differ", sample().with("Sec-WebSocket-Version: 8").and("Sec-WebSocket-Version: 13"), bad, nil},

		{"a line that continues the previous one (RFC 9112, 5.2)", raw(strings.Replace(string(sample().wire()), "Connection: ", "Connection:\r\n ", 1)), bad, nil},
		{"a line that continues with a tab", raw(strings.Replace(string(sample().wire()), "Connection: ", "Connection:\n\t", 1)), bad, nil},
		{"space before the first field (RFC 9112, 2.2)", raw(strings.Replace(string(sample().wire()), "Host", " Host", 1)), bad, nil},
		{"space before a colon (RFC 9112, 5.1)", sample().and("X-Field : x"), bad, nil},
		{"space in a name", sample().and("X Field: x"), bad, nil},
		{"a field without colon", sample().and("X-Field"), bad, nil},
		{"a field without name", sample().and(": x"), bad, nil},
		{"a bare CR in a value (RFC 9112, 2.2)", sample().and("X: a\rb"), bad, nil},
		{"a bare CR at the end of a value", sample().and("X: a\r"), bad, nil},
		{"a bare CR in a name", sample().and("X\rY: a"), bad, nil},
		{"a bare CR at the end of the request line", asking("GET / HTTP/1.1\r"), bad, nil},
		{"a line of a bare CR", sample().and("\r"), bad, nil},
		{"a bare CR before the request (RFC 9112, 2.2)", raw("\r" + string(sample().wire())), bad, nil},
		{"a bare CR among empty lines before the request", raw("\r\n\r\r\n" + string(sample().wire())), bad, nil},
		{"a NUL in a value (RFC 9110, 5.5)", sample().and("X: a\x00b"), bad, nil},
		{"a control character in a value", sample().and("X: a\x1bb"), bad, nil},
		{"a DEL in a value", sample().and("X: a\x7fb"), bad, nil},
		{"a name that is not ASCII (RFC 9110, 5.1)", sample().and("\xc3\xa4: a"), bad, nil},
		{"a body (RFC 6455, 4.1)", sample().and("Content-Length: 5"), bad, nil},
		{"an empty Content-Length (RFC 9110, 8.6)", sample().and("Content-Length:"), bad, nil},
		{"a body in chunks", sample().and("Transfer-Encoding: chunked"), bad, nil},

		{"a request one byte longer than MaxHeader (RFC 6585, 5)", sample().long(8<<10 + 1), 431, nil},
		{"HEAD one byte longer than MaxHeader, without a body", asking("HEAD / HTTP/1.1").long(8<<10 + 1), 431, nil},
		{"an endless request", raw("GET /" + strings.Repeat("x", 9<<10)), 431, nil},
		{"endless empty lines", raw(strings.Repeat("\r\n", 5<<10)), 431, nil},

		{"a malformed list of extensions (9.1)", sample().and("Sec-WebSocket-Extensions: permessage-deflate;;"), bad, nil},
		{"two extensions without a comma", sample().and("Sec-WebSocket-Extensions: x y"), bad, nil},
		{"an extension with an empty parameter", sample().and("Sec-WebSocket-Extensions: x;"), bad, nil},
		{"a parameter with an empty value", sample().and("Sec-WebSocket-Extensions: x; y="), bad, nil},
		{"a parameter with an empty value in quotes", sample().and("Sec-WebSocket-Extensions: x; y=\"\""), bad, nil},
		{"a parameter with a value that is not a token", sample().and("Sec-WebSocket-Extensions: x; y=\"c d\""), bad, nil},
		{"a parameter with text after its value", sample().and("Sec-WebSocket-Extensions: x; y=\"1\"2"), bad, nil},
		{"a malformed extension on the second line", sample().and("Sec-WebSocket-Extensions: x", "Sec-WebSocket-Extensions: y z"), bad, nil},
		{"a value over two lines", sample().and("Sec-WebSocket-Extensions: x; y=\"1", "Sec-WebSocket-Extensions: 2\""), bad, nil},
		{"a list of extensions with only empty members", sample().and("Sec-WebSocket-Extensions: , ,", "Sec-WebSocket-Extensions:"), bad, nil},
		{"an empty list of extensions", sample().and("Sec-WebSocket-Extensions:"), bad, nil},
		{"an extension's value with a quote that is not closed", sample().and("Sec-WebSocket-Extensions: a; b=\"c"), bad, nil},
		{"a malformed list of subprotocols (4.1, item 10)", sample().and("Sec-WebSocket-Protocol: a/b"), bad, nil},
		{"an empty list of subprotocols", sample().and("Sec-WebSocket-Protocol:"), bad, nil},
		{"a list of subprotocols with only empty members", sample().and("Sec-WebSocket-Protocol: , ,", "Sec-WebSocket-Protocol:"), bad, nil},
		{"a subprotocol in quotes", sample().and("Sec-WebSocket-Protocol: \"chat\""), bad, nil},
		{"a malformed subprotocol after one that is selected", sample().and("Sec-WebSocket-Protocol: a, b/c"), bad, nil},
		{"the same subprotocol twice (4.1, item 10)", sample().and("Sec-WebSocket-Protocol: chat, chat"), bad, nil},
		{"the same subprotocol on two lines", sample().and("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"), bad, nil},
		{"the same subprotocol twice, with others between", sample().and("Sec-WebSocket-Protocol: a, b,, c", "Sec-WebSocket-Protocol: d, b"), bad, nil},
		{"the same subprotocol twice among thousands", sample().and("Sec-WebSocket-Protocol: " + thousands + ", 2000"), bad, nil},
		{"subprotocols without commas", sample().and("Sec-WebSocket-Protocol: a b"), bad, nil},
	} {
		rules = append(rules, rule{name: c.name, fresh: true, talk: func(p *peer) {
			p.sends(c.sends)
			p.wantsRefusal(c.status, c.name, c.want...)
		}})
	}
	converse(t, rules)
}

// plainGet returns a GET request with no fields but Host and those given.
func plainGet(fields ...string) opening {
	return opening{"GET / HTTP/1.1", append([]string{"Host: a"}, fields...), "\r\n"}
}

// thousands is a list of as many different subprotocols as fit into a request of 8 KiB.
var thousands = func() string {
	var all []string
	for i := range 1100 {
		all = append(all, fmt.Sprint(1000+i))
	}
	return strings.Join(all, ", ")
}()

// The reason of a refusal names the fault of the request.
func TestRefusalReasonsNameTheFault(t *testing.T) {
	var rules []rule
	for _, c := range []struct {
		sends  sendable
		status int
		reason string
	}{
		{sample().and("Host: server.example.com"), 400, "Host was sent twice"},
		{sample().and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "Sec-WebSocket-Key was sent twice"},
		{sample().and("Sec-WebSocket-Version: 13"), 400, "Sec-WebSocket-Version was sent twice"},
		{sample().with("Sec-WebSocket-Version: 8").and("Sec-WebSocket-Version: 13"), 400, "Sec-WebSocket-Version was sent twice"},
		{sample().and("Origin: http://a", "Origin: http://a"), 403, "Origin was sent twice"},
		{sample().and("Origin: null"), 403, "this origin is not allowed (-origins)"},
		{sample().and("Origin: http://a http://b"), 403, "malformed Origin: it must be null or scheme://host[:port]"},
		{sample().and("Sec-WebSocket-Protocol: a, a"), 400, "Sec-WebSocket-Protocol names a subprotocol twice"},
		{sample().and("Sec-WebSocket-Protocol: a b"), 400, "malformed Sec-WebSocket-Protocol: it must be a list of tokens"},
		{sample().and("Sec-WebSocket-Extensions: a b"), 400, "malformed Sec-WebSocket-Extensions"},
		{asking("GET http://user@h/ HTTP/1.1"), 400, "malformed request target: an absolute URI must have a valid host and no user information"},
		{raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, "this is TLS, not an HTTP request: connect without TLS, or terminate TLS in front of this server"},
		{raw("PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + string(sample().wire())), 400, "this is a PROXY protocol header, which this server does not support: turn it off in the proxy"},
		{raw("PROXY TCP6 2001:db8::1 2001:db8::2 1234 80\r\n"), 400, "this is a PROXY protocol header, which this server does not support: turn it off in the proxy"},
		{raw("PROXY UNKNOWN\r\n"), 400, "this is a PROXY protocol header, which this server does not support: turn it off in the proxy"},
		{raw("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), 400, "this is a PROXY protocol header, which this server does not support: turn it off in the proxy"},
		{raw("\r\n\x00\r\nQUIT\n"), 400, "this is not an HTTP request"},
		{asking("PROXY / HTTP/1.1"), 405, "a WebSocket handshake must be a GET request"},
		{raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505, "this is HTTP/2, but only HTTP/1.1 is supported"},
		{sample().long(8<<10 + 1), 431, "the request is longer than 8192 bytes, which is the server's limit (-max-header)"},
	} {
		rules = append(rules, rule{name: c.reason, fresh: true,
			with: func(cfg *Config) { cfg.AnyOrigin = false },
			talk: func(p *peer) {
				p.sends(c.sends)
				p.wantsReason(c.status, c.reason, fmt.Sprintf("the peer sent %.100q", c.sends.wire()))
			}})
	}
	converse(t, rules)
}

func TestRequestsAreRefusedAtTheFirstInvalidByte(t *testing.T) {
	var rules []rule
	for _, c := range []struct{ name, sound, invalid string }{
		{"TLS", "", "\x16"},
		{"a PROXY protocol header, version 1,", "PROXY UNKNOWN\r", "\n"},
		{"a PROXY protocol header, version 2,", "\r\n\r\n", "\x00"},
		{"a NUL", "G", "\x00"},
		{"a line end in the method", "GET", "\r"},
		{"a line end after empty lines and a method", "\r\n\nGET", "\n"},
		{"a colon", "Host", ":"},
		{"a space", "\r\n", " "},
		{"a space as the first byte", "", " "},
		{"a byte that is not ASCII", "G", "\xc3"},
		{"an unmasked frame", "", "\x81"},
	} {
		rules = append(rules, rule{name: c.name + " is refused at its first invalid byte (RFC 9112, 2.2)", fresh: true, talk: func(p *peer) {
			p.sends(raw(c.sound))
			p.wantsNothing("so far it may be a request")
			p.sends(raw(c.invalid))
			p.wantsRefusal(400, "now it cannot be a request")
		}})
	}
	rules = append(rules, rule{name: "a request that is too long is refused at the first byte above the limit", fresh: true,
		with: func(cfg *Config) { cfg.MaxHeader = 100 },
		talk: func(p *peer) {
			p.sends(raw("GET /" + strings.Repeat("x", 95)))
			p.wantsNothing("the request has 100 bytes so far")
			p.sends(raw("x"))
			p.wantsRefusal(431, "the request has more than 100 bytes")
		}})
	converse(t, rules)
}

func TestSubprotocol(t *testing.T) {
	selected := func(p string) []string { return []string{"Sec-WebSocket-Protocol: " + p} }
	known := []string{"mqtt", "chat"}
	var rules []rule
	for _, c := range []struct {
		name  string
		known []string // nil: any
		sends opening
		want  []string
	}{
		{"the first offered, if any is accepted", nil, sample().and("Sec-WebSocket-Protocol: chat, superchat"), selected("chat")},
		{"the only one offered", nil, sample().and("sec-websocket-protocol:superchat"), selected("superchat")},
		{"one with every punctuation character of a token", nil, sample().and("Sec-WebSocket-Protocol: !#$%&'*+-.^_`|~09azAZ"), selected("!#$%&'*+-.^_`|~09azAZ")},
		{"the first of several lines (11.3.4)", nil, sample().and("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"), selected("a")},
		{"empty members are skipped (RFC 9110, 5.6.1)", nil, sample().and("Sec-WebSocket-Protocol: ,, a,"), selected("a")},
		{"a long one", nil, sample().and("Sec-WebSocket-Protocol: " + strings.Repeat("x", 5000)), selected(strings.Repeat("x", 5000))},
		{"the first of thousands", nil, sample().and("Sec-WebSocket-Protocol: " + thousands), selected("1000")},
		{"names that differ in case are different (4.1, item 10)", nil, sample().and("Sec-WebSocket-Protocol: Chat, chat"), selected("Chat")},
		{"one of several fields may be empty (RFC 9110, 5.3)", nil, sample().and("Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: a"), selected("a")},
		{"tabs may surround names", nil, sample().and("Sec-WebSocket-Protocol:\ta\t,\tb\t"), selected("a")},
		{"none without an offer", nil, sample(), nil},
		{"the client's first that is known (4.2.2, item 5)", known, sample().and("Sec-WebSocket-Protocol: soap, chat, mqtt"), selected("chat")},
		{"known only on the second line", known, sample().and("Sec-WebSocket-Protocol: soap", "Sec-WebSocket-Protocol: wamp, mqtt"), selected("mqtt")},
		{"none that is known", known, sample().and("Sec-WebSocket-Protocol: soap, wamp"), nil},
		{"names are matched with case (4.1, item 10)", known, sample().and("Sec-WebSocket-Protocol: CHAT"), nil},
		{"none if none is known", []string{}, sample().and("Sec-WebSocket-Protocol: soap, wamp"), nil},
	} {
		rules = append(rules, rule{name: c.name, fresh: true,
			with: func(cfg *Config) { cfg.AnySubprotocol, cfg.Subprotocols = c.known == nil, c.known },
			talk: func(p *peer) {
				p.sends(c.sends, ping("?"))
				p.wantsUpgrade(c.name, c.want...)
				p.wantsPong("?", "the connection is open in any case")
			}})
	}
	converse(t, rules)
}

// A subprotocol is selected for one connection, not for the next one of the same endpoint.
func TestSubprotocolIsNotKeptForTheNextConnection(t *testing.T) {
	first := newConnection(t, usual())
	first.arrive(sample().and("Sec-WebSocket-Protocol: chat").wire(), true)
	second := &connection{t: t, endpoint: first.endpoint}
	if output := second.arrive(sample().wire(), true); !bytes.HasPrefix(output, []byte("HTTP/1.1 101 ")) || bytes.Contains(output, []byte("chat")) {
		t.Errorf("got %q, want 101 without a subprotocol", output)
	}
}

// A repeated subprotocol is refused even if another one, or none, would be selected.
func TestRepeatedSubprotocolIsRefused(t *testing.T) {
	var rules []rule
	for name, known := range map[string][]string{"first": {"chat"}, "other": {"soap"}, "none": {}} {
		rules = append(rules, rule{name: name + " is known", fresh: true,
			with: func(cfg *Config) { cfg.AnySubprotocol, cfg.Subprotocols = false, known },
			talk: func(p *peer) {
				p.sends(sample().and("Sec-WebSocket-Protocol: chat, soap", "Sec-WebSocket-Protocol: chat"))
				p.wantsRefusal(400, "chat is offered twice")
			}})
	}
	converse(t, rules)
}

func TestOrigin(t *testing.T) {
	var rules []rule
	for _, c := range []struct {
		name   string
		sends  opening
		status int
	}{
		{"no origin: not a browser (10.2)", sample(), 101},
		{"a listed host", sample().and("Origin: https://example.com"), 101},
		{"a listed host at any port", sample().and("Origin: http://example.com:8080"), 101},
		{"a listed host in any case", sample().and("origin: HTTPS://Example.COM"), 101},
		{"a listed port", sample().and("Origin: http://other.example:81"), 101},
		{"a listed IPv6 address", sample().and("Origin: http://[::1]:3000"), 101},
		{"another port than the listed", sample().and("Origin: http://other.example:82"), 403},
		{"a listed port that is the default of https (RFC 6454, 4)", sample().and("Origin: https://secure.example"), 101},
		{"a listed port that is the default of https, named", sample().and("Origin: https://secure.example:443"), 101},
		{"a listed port that is the default of wss", sample().and("Origin: wss://secure.example"), 101},
		{"a listed port, written as an empty port", sample().and("Origin: https://secure.example:"), 101},
		{"a listed port under another scheme", sample().and("Origin: http://secure.example:443"), 101},
		{"a listed port that is not the default of http", sample().and("Origin: http://secure.example"), 403},
		{"a listed port with a scheme without default port", sample().and("Origin: app://secure.example"), 403},
		{"a listed port that is the default of http", sample().and("Origin: http://plain.example"), 101},
		{"a listed port that is the default of ws", sample().and("Origin: ws://plain.example"), 101},
		{"a listed port that is not the default of https", sample().and("Origin: https://plain.example"), 403},
		{"a listed host with a scheme without default port", sample().and("Origin: chrome-extension://example.com"), 101},
		{"an IPv6 address in another form", sample().and("Origin: http://[0:0:0:0:0:0:0:1]"), 101},
		{"another IPv6 address", sample().and("Origin: http://[::2]"), 403},
		{"below a listed domain", sample().and("Origin: https://a.wild.example"), 101},
		{"several levels below a listed domain", sample().and("Origin: https://A.b.C.Wild.example:8443"), 101},
		{"a listed domain itself", sample().and("Origin: https://wild.example"), 403},
		{"a host that ends with a listed domain", sample().and("Origin: https://evilwild.example"), 403},
		{"a host that begins with a listed domain", sample().and("Origin: https://a.wild.example.evil.example"), 403},
		{"a dot before a listed domain", sample().and("Origin: https://.wild.example"), 403},
		{"two dots before a listed domain", sample().and("Origin: https://a..wild.example"), 403},
		{"a user before a listed domain", sample().and("Origin: https://evil.example:80@a.wild.example"), 403},
		{"below a listed domain at its port", sample().and("Origin: https://a.port.example"), 101},
		{"below a listed domain at another port", sample().and("Origin: http://a.port.example"), 403},
		{"a listed host without a scheme (RFC 6454, 6.2)", sample().and("Origin: example.com"), 403},
		{"a listed host with an empty scheme", sample().and("Origin: ://example.com"), 403},
		{"a listed host with an invalid scheme", sample().and("Origin: 1x://example.com"), 403},
		{"a listed host with a path", sample().and("Origin: https://example.com/"), 403},
		{"a listed host in quotes", sample().and("Origin: \"https://example.com\""), 403},
		{"a listed host with a port that is not a number", sample().and("Origin: https://example.com:x"), 403},
		{"a listed host with a port above 65535", sample().and("Origin: https://example.com:65979"), 403},
		{"null in upper case", sample().and("Origin: NULL"), 403},
		{"a host called null", sample().and("Origin: http://null"), 403},
		{"no port where one is listed", sample().and("Origin: http://other.example"), 403},
		{"a host that is not listed", sample().and("Origin: http://evil.example"), 403},
		{"a host that ends with a listed one", sample().and("Origin: http://notexample.com"), 403},
		{"a host that is below a listed one", sample().and("Origin: http://www.example.com"), 403},
		{"a host that begins with a listed one", sample().and("Origin: http://example.com.evil.example"), 403},
		{"a listed host as the user", sample().and("Origin: http://example.com@evil.example"), 403},
		{"a listed host as the user, with an empty password", sample().and("Origin: http://example.com:@evil.example"), 403},
		{"null (RFC 6454, 7.3)", sample().and("Origin: null"), 403},
		{"an empty origin", sample().and("Origin:"), 403},
		{"two origins (RFC 6454, 7.3)", sample().and("Origin: http://example.com", "Origin: http://example.com"), 403},
		{"two origins in a line", sample().and("Origin: http://example.com http://evil.example"), 403},
	} {
		rules = append(rules, rule{name: c.name, fresh: true,
			with: func(cfg *Config) {
				cfg.AnyOrigin, cfg.Origins = false, origins(t, "example.com", "other.example:81", "[::1]",
					"secure.example:443", "plain.example:80", "*.wild.example", "*.port.example:443")
			},
			talk: func(p *peer) {
				p.sends(c.sends)
				if c.status == 101 {
					p.wantsUpgrade(c.name)
				} else {
					p.wantsRefusal(c.status, c.name)
				}
			}})
	}
	rules = append(rules, rule{name: "a host called null, where null is listed", fresh: true,
		with: func(cfg *Config) { cfg.AnyOrigin, cfg.Origins = false, origins(t, "null") },
		talk: func(p *peer) {
			p.sends(sample().and("Origin: https://null"))
			p.wantsRefusal(403, "the rule null does not match a host called null")
		}}, rule{name: "null, where it is listed", fresh: true,
		with: func(cfg *Config) { cfg.AnyOrigin, cfg.Origins = false, origins(t, "null") },
		talk: func(p *peer) {
			p.sends(sample().and("Origin: null"))
			p.wantsUpgrade("null is listed")
		}}, rule{name: "any origin, where any is accepted", fresh: true, talk: func(p *peer) {
		p.sends(sample().and("Origin: http://evil.example"))
		p.wantsUpgrade("any origin is accepted")
	}})
	converse(t, rules)
}
