package wire

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"wsecho/loadtest/stats"
)

// endOfHeader ends the header of a request or response.
var endOfHeader = []byte("\r\n\r\n")

const (
	// LongestResponse is the maximum length in bytes of an opening response, including the 1xx
	// responses before it.
	LongestResponse = 16 << 10

	// LongestRequest is the maximum length in bytes of an opening request. An empty socket buffer
	// takes this length in one write.
	LongestRequest = 16 << 10
)

// key returns the Sec-WebSocket-Key of a connection. It is computed from the connection's serial
// number, so it is not stored. A key has to be new, but not secret: it only proves that the server
// has read the request (RFC 6455, section 10.3).
func key(serial uint64) string {
	var nonce [16]byte
	binary.LittleEndian.PutUint64(nonce[:8], scramble(serial))
	binary.LittleEndian.PutUint64(nonce[8:], scramble(^serial))
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// scramble is the finalizer of splitmix64. It maps neighbouring numbers to unrelated ones.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// AcceptKey returns the Sec-WebSocket-Accept value for a key (RFC 6455, section 4.2.2).
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A Field is a header field of the opening request.
type Field struct{ Name, Value string }

// refusedFields holds the fields that ParseField refuses, because wsload sets them itself or they
// would change the meaning of the request. The value is the reason, or the flag to use instead.
var refusedFields = map[string]string{
	"Upgrade":                  "wsload sets it",
	"Connection":               "wsload sets it",
	"Sec-Websocket-Key":        "wsload sets it",
	"Sec-Websocket-Version":    "wsload sets it",
	"Sec-Websocket-Protocol":   "use -subprotocol",
	"Sec-Websocket-Extensions": "wsload supports no extension",
	"Content-Length":           "the request has no content",
	"Transfer-Encoding":        "the request has no content",
}

// ParseField parses a header field such as "Name: value" (RFC 9110, sections 5.1 and 5.5). It
// refuses refusedFields. Its error is the predicate of a sentence whose subject is the field:
// "has a control character in its value".
func ParseField(text string) (f Field, err error) {
	name, value, found := strings.Cut(text, ":")
	value = strings.Trim(value, " \t")
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	reason := refusedFields[canonical]
	if strings.HasPrefix(canonical, "Sec-Websocket-") {
		reason = cmp.Or(reason, "RFC 6455 defines no such request field")
	}
	switch {
	case !found:
		return f, errors.New("is not 'Name: value'")
	case !IsToken(name):
		return f, fmt.Errorf("has a name %.100q that is not a token (RFC 9110, section 5.6.2)", name)
	case strings.ContainsFunc(value, isControl):
		return f, errors.New("has a control character in its value (RFC 9110, section 5.5)")
	case reason != "":
		return f, fmt.Errorf("cannot be set: %s", reason)
	}
	return Field{name, value}, nil
}

// isControl reports whether r is a character that a field value must not contain. TAB is allowed.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// IsToken reports whether s is a token (RFC 9110, section 5.6.2).
func IsToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// RequestHead returns the part of the opening request that is the same for all connections: up to
// the value of the key. It returns an error if the request is longer than LongestRequest.
func RequestHead(u *url.URL, fields []Field, subprotocols []string) ([]byte, error) {
	host := u.Host
	var more strings.Builder
	if u.User != nil {
		password, _ := u.User.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		fmt.Fprintf(&more, "Authorization: Basic %s\r\n", credentials)
	}
	if len(subprotocols) > 0 {
		fmt.Fprintf(&more, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(subprotocols, ", "))
	}
	for _, f := range fields {
		if strings.EqualFold(f.Name, "Host") {
			host = f.Value
			continue
		}
		fmt.Fprintf(&more, "%s: %s\r\n", f.Name, f.Value)
	}
	head := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%sUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ", requestTarget(u), host, more.String())
	if n := len(AppendRequest(nil, head, 0)); n > LongestRequest {
		return nil, fmt.Errorf("the opening request is %d bytes long, the limit is %d", n, LongestRequest)
	}
	return head, nil
}

// requestTarget returns the path and query of a URL. It escapes the characters that url.Parse
// accepts in a query but a request line must not contain.
func requestTarget(u *url.URL) string {
	var b strings.Builder
	for _, c := range []byte(u.RequestURI()) {
		if c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// AppendRequest appends to p the opening request of the connection with the given serial number.
// Head is the result of RequestHead.
func AppendRequest(p, head []byte, serial uint64) []byte {
	p = append(p, head...)
	p = append(p, key(serial)...)
	return append(p, endOfHeader...)
}

// CheckResponse checks the response to the request with the given serial number (RFC 6455, section
// 4.1). The response includes its blank line. Subprotocols are those that were offered; the server
// may choose one of them or none. The error is a [*stats.Fault].
func CheckResponse(response []byte, serial uint64, subprotocols ...string) error {
	status, fields, _ := strings.Cut(string(response), "\r\n")
	version, code, _ := strings.Cut(status, " ")
	if version != "HTTP/1.1" || code != "101" && !strings.HasPrefix(code, "101 ") {
		return stats.Faultf(stats.HandshakeFailed, "the response is %.100q, want status 101", status)
	}
	var upgrade, connection, accept, subprotocol bool
	for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "upgrade":
			upgrade = strings.EqualFold(value, "websocket")
		case "connection":
			for token := range strings.SplitSeq(value, ",") {
				connection = connection || strings.EqualFold(strings.TrimSpace(token), "upgrade")
			}
		case "sec-websocket-accept":
			accept = value == AcceptKey(key(serial))
		case "sec-websocket-extensions":
			if value != "" {
				return stats.Faultf(stats.HandshakeFailed, "%s: %.100q, but no extension was offered", name, value)
			}
		case "sec-websocket-protocol":
			switch {
			case value == "":
			case len(subprotocols) == 0:
				return stats.Faultf(stats.HandshakeFailed, "%s: %.100q, but no subprotocol was offered (-subprotocol)", name, value)
			case !slices.Contains(subprotocols, value):
				return stats.Faultf(stats.HandshakeFailed, "%s: %.100q is not one of those offered: %.200s", name, value, strings.Join(subprotocols, ", "))
			case subprotocol:
				return stats.Faultf(stats.HandshakeFailed, "%s occurs twice", name)
			}
			subprotocol = subprotocol || value != ""
		}
	}
	switch {
	case !upgrade:
		return stats.Faultf(stats.HandshakeFailed, "101 without Upgrade: websocket")
	case !connection:
		return stats.Faultf(stats.HandshakeFailed, "101 without Connection: Upgrade")
	case !accept:
		return stats.Faultf(stats.HandshakeFailed, "101 with a wrong or missing Sec-WebSocket-Accept")
	}
	return nil
}

// CutResponse returns the final response after any number of 1xx responses (RFC 9110, section
// 15.2), and the bytes that follow it. A 101 is final. Whole reports whether the final response is
// complete. If it is not, rest is p.
func CutResponse(p []byte) (response, rest []byte, whole bool) {
	for rest = p; ; {
		i := bytes.Index(rest, endOfHeader)
		if i < 0 {
			return nil, p, false
		}
		i += len(endOfHeader)
		response, rest = rest[:i], rest[i:]
		if !isInterim(response) {
			return response, rest, true
		}
	}
}

// isInterim reports whether a response is a 1xx response other than 101. Interim responses have no
// content.
func isInterim(response []byte) bool {
	code, found := bytes.CutPrefix(response, []byte("HTTP/1.1 1"))
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	return found && len(code) > 2 && digit(code[0]) && digit(code[1]) && (code[2] == ' ' || code[2] == '\r') && string(code[:2]) != "01"
}
