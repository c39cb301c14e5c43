package echo

import (
	"net/http"
	"strings"
)

// Examine examines a request that another HTTP server has read: it returns the refusal that
// Receive would have answered it with, or else the subprotocol that it would have selected, if any.
// What such a server does not pass on, it has judged itself: doubled Host fields, malformed lines,
// and how long the request takes.
func (e *Endpoint) Examine(r *http.Request) (subprotocol string, refusal *Refusal) {
	if sizeOf(r) > e.cfg.MaxHeader {
		return "", e.upgrader.tooLong
	}
	if refusal := e.upgrader.examine(headOf(r)); refusal != nil {
		return "", refusal
	}
	return string(e.upgrader.subprotocol), nil
}

// sizeOf is the length of a request head with one space after each colon and CRLF after each line.
func sizeOf(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n\r\n")
	field := func(name, value string) { n += len(name) + len(value) + len(": \r\n") }
	if r.Host != "" {
		field("Host", r.Host)
	}
	for name, values := range r.Header {
		for _, value := range values {
			field(name, value)
		}
	}
	return n
}

// looksAt are the fields that the upgrader looks at, but for Host and those that announce a body.
var looksAt = []string{
	"Upgrade", "Connection", "Sec-Websocket-Version", "Sec-Websocket-Key",
	"Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Origin",
}

// headOf is the head of a request as it may have been, as far as it matters.
func headOf(r *http.Request) []byte {
	var head []byte
	line := func(parts ...string) {
		for _, p := range parts {
			head = append(head, p...)
		}
		head = append(head, "\r\n"...)
	}
	line(r.Method, " ", r.RequestURI, " ", r.Proto)
	if r.Host != "" {
		line("Host: ", r.Host)
	}
	for _, name := range looksAt {
		for _, value := range r.Header[name] {
			line(name, ": ", value)
		}
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		line("Transfer-Encoding: ", strings.Join(r.TransferEncoding, ", "))
	}
	line()
	return head
}

// ServeHTTP answers with the refusal, and has the connection closed.
func (r *Refusal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Connection", "close")
	for field := range strings.Lines(r.fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(field), ": ")
		header.Add(name, value)
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(r.Reason + "\n"))
}
