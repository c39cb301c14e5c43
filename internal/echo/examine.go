package echo

import (
	"net/http"
	"strings"
)

// Examine is for a request that somebody else's HTTP server has read: it says what Receive would have refused it
// for. What such a server does not pass on, it has judged itself: doubled Host fields, malformed lines, and how long
// the request is and takes.
func (e *Endpoint) Examine(r *http.Request) *Refusal {
	_, refusal := e.upgrader.answer(headOf(r))
	return refusal
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
