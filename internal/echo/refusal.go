package echo

import (
	"strconv"
	"time"
)

// A Refusal is the answer to a request that does not lead to a WebSocket: an
// HTTP status and one line that says why.
type Refusal struct {
	Status int
	Reason string
	Fields string // further header fields, each with its CRLF
}

func (r *Refusal) Error() string { return r.Reason }

const (
	// RFC 9110, section 15.5.22: a 426 must say what to upgrade to, and whoever
	// sends Upgrade must name it in Connection (section 7.8). RFC 6455, section
	// 4.4: to a client of another version, the one that we speak.
	fieldsUpgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

	retryAfter = "Retry-After: 1\r\n"
)

// Statuses of refusals (RFC 9110, section 15, and RFC 6585, section 5).
const (
	statusBadRequest                  = 400
	statusForbidden                   = 403
	statusMethodNotAllowed            = 405
	statusRequestTimeout              = 408
	statusUpgradeRequired             = 426
	statusRequestHeaderFieldsTooLarge = 431
	statusServiceUnavailable          = 503
	statusHTTPVersionNotSupported     = 505
)

// statusTexts are the reason phrases of all statuses that a Refusal may have, those of package hijack
// included.
var statusTexts = map[int]string{
	statusBadRequest:                  "Bad Request",
	statusForbidden:                   "Forbidden",
	statusMethodNotAllowed:            "Method Not Allowed",
	statusRequestTimeout:              "Request Timeout",
	statusUpgradeRequired:             "Upgrade Required",
	statusRequestHeaderFieldsTooLarge: "Request Header Fields Too Large",
	500:                               "Internal Server Error",
	501:                               "Not Implemented",
	statusServiceUnavailable:          "Service Unavailable",
	statusHTTPVersionNotSupported:     "HTTP Version Not Supported",
}

// dateFormat is the layout of a Date field (RFC 9110, section 5.6.7).
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// The refusals that the bytes of a request earn.
var (
	refuseGarbage     = &Refusal{statusBadRequest, "this is not an HTTP request", ""}
	refuseTLS         = &Refusal{statusBadRequest, "this is TLS, and not an HTTP request: connect without TLS, or end TLS in front of this server", ""}
	refuseProxy       = &Refusal{statusBadRequest, "this is a PROXY protocol header, which this server does not read: turn it off in the proxy", ""}
	refuseRequestLine = &Refusal{statusBadRequest, "malformed request line", ""}
	refuseVersionHTTP = &Refusal{statusHTTPVersionNotSupported, "only HTTP/1.1 is spoken here", ""}
	refuseHTTP2       = &Refusal{statusHTTPVersionNotSupported, "this is HTTP/2, and only HTTP/1.1 is spoken here", ""}
	refuseHTTP10      = &Refusal{statusBadRequest, "a WebSocket handshake needs HTTP/1.1", ""}
	refuseMethod      = &Refusal{statusMethodNotAllowed, "a WebSocket handshake is a GET request", "Allow: GET\r\n"}
	refuseTarget      = &Refusal{statusBadRequest, "malformed request target", ""}
	refuseTargetHost  = &Refusal{statusBadRequest, "malformed request target: an absolute URI needs a valid host, and no user information", ""}
	refuseField       = &Refusal{statusBadRequest, "malformed header field", ""}
	refuseBody        = &Refusal{statusBadRequest, "a WebSocket handshake has no body", ""}
	refuseHost        = &Refusal{statusBadRequest, "missing or malformed Host", ""}
	refuseHostTwice   = &Refusal{statusBadRequest, "Host was sent twice", ""}
	refuseUpgrade     = &Refusal{statusBadRequest, "missing or malformed Upgrade: it must name websocket", ""}
	refuseConnection  = &Refusal{statusBadRequest, "missing or malformed Connection: it must name Upgrade", ""}
	refuseNotAsked    = &Refusal{statusUpgradeRequired, "this is a WebSocket echo server: connect with a WebSocket client", fieldsUpgrade}
	refuseVersion     = &Refusal{statusUpgradeRequired, "unsupported Sec-WebSocket-Version: only 13 is spoken here", fieldsUpgrade}
	refuseNoVersion   = &Refusal{statusBadRequest, "missing or malformed Sec-WebSocket-Version", ""}
	refuseTwoVersions = &Refusal{statusBadRequest, "Sec-WebSocket-Version was sent twice", ""}
	refuseKey         = &Refusal{statusBadRequest, "missing or malformed Sec-WebSocket-Key: it must be 16 bytes in base64", ""}
	refuseTwoKeys     = &Refusal{statusBadRequest, "Sec-WebSocket-Key was sent twice", ""}
	refuseProtocol    = &Refusal{statusBadRequest, "malformed Sec-WebSocket-Protocol: it must be a list of tokens", ""}
	refuseSame        = &Refusal{statusBadRequest, "Sec-WebSocket-Protocol names a subprotocol twice", ""}
	refuseExtensions  = &Refusal{statusBadRequest, "malformed Sec-WebSocket-Extensions", ""}
	refuseTwoOrigins  = &Refusal{statusForbidden, "Origin was sent twice", ""}
	refuseBadOrigin   = &Refusal{statusForbidden, "malformed Origin: it must be null or scheme://host[:port]", ""}
	refuseOrigin      = &Refusal{statusForbidden, "this origin is not admitted", ""}
)

// The refusals that the state of the server earns; whoever knows that state
// passes them to Refuse, or sends them.
var (
	RefuseTooSlow  = &Refusal{statusRequestTimeout, "the request took too long to arrive", ""}
	RefuseFull     = &Refusal{statusServiceUnavailable, "no room for another connection", retryAfter}
	RefusePerIP    = &Refusal{statusServiceUnavailable, "too many connections from your address", retryAfter}
	refuseShutdown = &Refusal{statusServiceUnavailable, "the server is shutting down", retryAfter}
)

// refuseTooLong is the refusal of a request that is longer than limit.
func refuseTooLong(limit int) *Refusal {
	reason := "the request is longer than " + strconv.Itoa(limit) + " bytes, which is the server's limit (-max-header)"
	return &Refusal{statusRequestHeaderFieldsTooLarge, reason, ""}
}

// Append appends the refusal as an HTTP response that ends the connection.
func (r *Refusal) Append(dst []byte, now time.Time) []byte { return r.append(dst, now, true) }

// append leaves the body out, but not what is said of it, in answer to a HEAD
// request (RFC 9110, section 9.3.2).
func (r *Refusal) append(dst []byte, now time.Time, body bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusTexts[r.Status]...)
	dst = append(dst, "\r\nConnection: close\r\n"...)
	dst = append(dst, r.Fields...)
	dst = append(dst, "Date: "...)
	dst = now.UTC().AppendFormat(dst, dateFormat)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Reason)+1), 10)
	dst = append(dst, "\r\n\r\n"...)
	if body {
		dst = append(dst, r.Reason...)
		dst = append(dst, '\n')
	}
	return dst
}
