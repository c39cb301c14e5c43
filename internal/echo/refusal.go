package echo

import (
	"strconv"
	"time"
)

// A Refusal is the HTTP response to a request that is not upgraded to a WebSocket connection.
type Refusal struct {
	Status int
	Reason string // the body: one line, without its line end
	Fields string // additional header fields, each with its CRLF
}

func (r *Refusal) Error() string { return r.Reason }

const (
	// RFC 9110, section 15.5.22: a 426 response must name the protocol in Upgrade, and a sender of
	// Upgrade must name it in Connection (section 7.8). RFC 6455, section 4.4: the response to a
	// client with another version names the version that the server supports.
	fieldsUpgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

	retryAfter = "Retry-After: 1\r\n"
)

// The status codes of responses (RFC 9110, section 15, and RFC 6585, section 5).
const (
	statusOK                          = 200
	statusNotModified                 = 304
	statusBadRequest                  = 400
	statusForbidden                   = 403
	statusMethodNotAllowed            = 405
	statusRequestTimeout              = 408
	statusUpgradeRequired             = 426
	statusRequestHeaderFieldsTooLarge = 431
	statusServiceUnavailable          = 503
	statusHTTPVersionNotSupported     = 505
)

// statusTexts holds the reason phrases of all statuses that a Page or a Refusal may have, including
// those of package hijack.
var statusTexts = map[int]string{
	statusOK:                          "OK",
	statusNotModified:                 "Not Modified",
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

// Refusals of invalid requests.
var (
	refuseGarbage     = &Refusal{statusBadRequest, "this is not an HTTP request", ""}
	refuseTLS         = &Refusal{statusBadRequest, "this is TLS, not an HTTP request: connect without TLS, or terminate TLS in front of this server", ""}
	refuseProxy       = &Refusal{statusBadRequest, "this is a PROXY protocol header, which this server does not support: turn it off in the proxy", ""}
	refuseRequestLine = &Refusal{statusBadRequest, "malformed request line", ""}
	refuseVersionHTTP = &Refusal{statusHTTPVersionNotSupported, "only HTTP/1.1 is supported", ""}
	refuseHTTP2       = &Refusal{statusHTTPVersionNotSupported, "this is HTTP/2, but only HTTP/1.1 is supported", ""}
	refuseHTTP10      = &Refusal{statusBadRequest, "a WebSocket handshake requires HTTP/1.1", ""}
	refuseMethod      = &Refusal{statusMethodNotAllowed, "a WebSocket handshake must be a GET request", "Allow: GET\r\n"}
	refuseTarget      = &Refusal{statusBadRequest, "malformed request target", ""}
	refuseTargetHost  = &Refusal{statusBadRequest, "malformed request target: an absolute URI must have a valid host and no user information", ""}
	refuseField       = &Refusal{statusBadRequest, "malformed header field", ""}
	refuseBody        = &Refusal{statusBadRequest, "a WebSocket handshake must not have a body", ""}
	refuseHost        = &Refusal{statusBadRequest, "missing or malformed Host", ""}
	refuseHostTwice   = &Refusal{statusBadRequest, "Host was sent twice", ""}
	refuseUpgrade     = &Refusal{statusBadRequest, "missing or malformed Upgrade: it must name websocket", ""}
	refuseConnection  = &Refusal{statusBadRequest, "missing or malformed Connection: it must name Upgrade", ""}
	refuseNotAsked    = &Refusal{statusUpgradeRequired, "this is a WebSocket echo server: connect with a WebSocket client", fieldsUpgrade}
	refuseVersion     = &Refusal{statusUpgradeRequired, "unsupported Sec-WebSocket-Version: only 13 is supported", fieldsUpgrade}
	refuseNoVersion   = &Refusal{statusBadRequest, "missing or malformed Sec-WebSocket-Version", ""}
	refuseTwoVersions = &Refusal{statusBadRequest, "Sec-WebSocket-Version was sent twice", ""}
	refuseKey         = &Refusal{statusBadRequest, "missing or malformed Sec-WebSocket-Key: it must be 16 bytes in base64", ""}
	refuseTwoKeys     = &Refusal{statusBadRequest, "Sec-WebSocket-Key was sent twice", ""}
	refuseProtocol    = &Refusal{statusBadRequest, "malformed Sec-WebSocket-Protocol: it must be a list of tokens", ""}
	refuseSame        = &Refusal{statusBadRequest, "Sec-WebSocket-Protocol names a subprotocol twice", ""}
	refuseExtensions  = &Refusal{statusBadRequest, "malformed Sec-WebSocket-Extensions", ""}
	refuseTwoOrigins  = &Refusal{statusForbidden, "Origin was sent twice", ""}
	refuseBadOrigin   = &Refusal{statusForbidden, "malformed Origin: it must be null or scheme://host[:port]", ""}
	refuseOrigin      = &Refusal{statusForbidden, "this origin is not allowed (-origins)", ""}
)

// Refusals that depend on the state of the server, not on the request. The worker pool and package
// hijack know that state, and use them.
var (
	RefuseTooSlow  = &Refusal{statusRequestTimeout, "the request took too long to arrive", ""}
	RefuseFull     = &Refusal{statusServiceUnavailable, "no room for another connection", retryAfter}
	RefusePerIP    = &Refusal{statusServiceUnavailable, "too many connections from your address", retryAfter}
	refuseShutdown = &Refusal{statusServiceUnavailable, "the server is shutting down", retryAfter}
)

// refuseTooLong returns the refusal of a request that is longer than limit, in bytes.
func refuseTooLong(limit int) *Refusal {
	reason := "the request is longer than " + strconv.Itoa(limit) + " bytes, which is the server's limit (-max-header)"
	return &Refusal{statusRequestHeaderFieldsTooLarge, reason, ""}
}

// Append appends the refusal to dst as an HTTP response with "Connection: close", and returns the
// extended slice. The response has the date now.
func (r *Refusal) Append(dst []byte, now time.Time) []byte { return r.append(dst, now, true) }

// append does the same, but leaves out the body if body is false. The response to a HEAD request
// has the fields that describe a body, but no body (RFC 9110, section 9.3.2).
func (r *Refusal) append(dst []byte, now time.Time, body bool) []byte {
	dst = appendHead(dst, r.Status, r.Fields, now)
	dst = append(dst, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Reason)+1), 10)
	dst = append(dst, "\r\n\r\n"...)
	if body {
		dst = append(dst, r.Reason...)
		dst = append(dst, '\n')
	}
	return dst
}

// appendHead appends the beginning of an HTTP response with "Connection: close" to dst: the status
// line and fields, each with its CRLF. Further fields may follow.
func appendHead(dst []byte, status int, fields string, now time.Time) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusTexts[status]...)
	dst = append(dst, "\r\nConnection: close\r\n"...)
	dst = append(dst, fields...)
	dst = append(dst, "Date: "...)
	dst = now.UTC().AppendFormat(dst, dateFormat)
	return append(dst, "\r\n"...)
}
