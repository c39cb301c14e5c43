package echo

import (
	"net/http"
	"strconv"
	"time"
)

// A Refusal is the answer to a request that does not lead to a WebSocket: an
// HTTP status and one line that says why.
type Refusal struct {
	Status int
	Reason string
	fields string // further header fields, each with its CRLF
}

func (r *Refusal) Error() string { return r.Reason }

const (
	// RFC 9110, section 15.5.22: a 426 must say what to upgrade to, and whoever
	// sends Upgrade must name it in Connection (section 7.8). RFC 6455, section
	// 4.4: to a client of another version, the one that we speak.
	fieldsUpgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

	retryAfter = "Retry-After: 1\r\n"
)

// The refusals that the bytes of a request earn.
var (
	refuseGarbage     = &Refusal{http.StatusBadRequest, "this is not an HTTP request", ""}
	refuseTLS         = &Refusal{http.StatusBadRequest, "this is TLS, and not an HTTP request: connect without TLS, or end TLS in front of this server", ""}
	refuseProxy       = &Refusal{http.StatusBadRequest, "this is a PROXY protocol header, which this server does not read: turn it off in the proxy", ""}
	refuseRequestLine = &Refusal{http.StatusBadRequest, "malformed request line", ""}
	refuseVersionHTTP = &Refusal{http.StatusHTTPVersionNotSupported, "only HTTP/1.1 is spoken here", ""}
	refuseHTTP2       = &Refusal{http.StatusHTTPVersionNotSupported, "this is HTTP/2, and only HTTP/1.1 is spoken here", ""}
	refuseHTTP10      = &Refusal{http.StatusBadRequest, "a WebSocket handshake needs HTTP/1.1", ""}
	refuseMethod      = &Refusal{http.StatusMethodNotAllowed, "a WebSocket handshake is a GET request", "Allow: GET\r\n"}
	refuseTarget      = &Refusal{http.StatusBadRequest, "malformed request target", ""}
	refuseTargetHost  = &Refusal{http.StatusBadRequest, "malformed request target: an absolute URI needs a valid host, and no user information", ""}
	refuseField       = &Refusal{http.StatusBadRequest, "malformed header field", ""}
	refuseBody        = &Refusal{http.StatusBadRequest, "a WebSocket handshake has no body", ""}
	refuseHost        = &Refusal{http.StatusBadRequest, "missing or malformed Host", ""}
	refuseHostTwice   = &Refusal{http.StatusBadRequest, "Host was sent twice", ""}
	refuseUpgrade     = &Refusal{http.StatusBadRequest, "missing or malformed Upgrade: it must name websocket", ""}
	refuseConnection  = &Refusal{http.StatusBadRequest, "missing or malformed Connection: it must name Upgrade", ""}
	refuseNotAsked    = &Refusal{http.StatusUpgradeRequired, "this is a WebSocket echo server: connect with a WebSocket client", fieldsUpgrade}
	refuseVersion     = &Refusal{http.StatusUpgradeRequired, "unsupported Sec-WebSocket-Version: only 13 is spoken here", fieldsUpgrade}
	refuseNoVersion   = &Refusal{http.StatusBadRequest, "missing or malformed Sec-WebSocket-Version", ""}
	refuseTwoVersions = &Refusal{http.StatusBadRequest, "Sec-WebSocket-Version was sent twice", ""}
	refuseKey         = &Refusal{http.StatusBadRequest, "missing or malformed Sec-WebSocket-Key: it must be 16 bytes in base64", ""}
	refuseTwoKeys     = &Refusal{http.StatusBadRequest, "Sec-WebSocket-Key was sent twice", ""}
	refuseProtocol    = &Refusal{http.StatusBadRequest, "malformed Sec-WebSocket-Protocol: it must be a list of tokens", ""}
	refuseSame        = &Refusal{http.StatusBadRequest, "Sec-WebSocket-Protocol names a subprotocol twice", ""}
	refuseExtensions  = &Refusal{http.StatusBadRequest, "malformed Sec-WebSocket-Extensions", ""}
	refuseTwoOrigins  = &Refusal{http.StatusForbidden, "Origin was sent twice", ""}
	refuseBadOrigin   = &Refusal{http.StatusForbidden, "malformed Origin: it must be null or scheme://host[:port]", ""}
	refuseOrigin      = &Refusal{http.StatusForbidden, "this origin is not admitted", ""}
)

// The refusals that the state of the server earns; whoever knows that state
// passes them to Refuse, or sends them.
var (
	RefuseTooSlow  = &Refusal{http.StatusRequestTimeout, "the request took too long to arrive", ""}
	RefuseFull     = &Refusal{http.StatusServiceUnavailable, "no room for another connection", retryAfter}
	RefusePerIP    = &Refusal{http.StatusServiceUnavailable, "too many connections from your address", retryAfter}
	refuseShutdown = &Refusal{http.StatusServiceUnavailable, "the server is shutting down", retryAfter}
)

// refuseTooLong is the refusal of a request that is longer than limit.
func refuseTooLong(limit int) *Refusal {
	reason := "the request is longer than " + strconv.Itoa(limit) + " bytes, which is the server's limit (-max-header)"
	return &Refusal{http.StatusRequestHeaderFieldsTooLarge, reason, ""}
}

// Append appends the refusal as an HTTP response that ends the connection.
func (r *Refusal) Append(dst []byte, now time.Time) []byte { return r.append(dst, now, true) }

// append leaves the body out, but not what is said of it, in answer to a HEAD
// request (RFC 9110, section 9.3.2).
func (r *Refusal) append(dst []byte, now time.Time, body bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(r.Status)...)
	dst = append(dst, "\r\nConnection: close\r\n"...)
	dst = append(dst, r.fields...)
	dst = append(dst, "Date: "...)
	dst = now.UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Reason)+1), 10)
	dst = append(dst, "\r\n\r\n"...)
	if body {
		dst = append(dst, r.Reason...)
		dst = append(dst, '\n')
	}
	return dst
}
