package hijack

import (
	"net/http"
	"strings"

	"wsecho/internal/echo"
)

// net/http itself enforces the rules whose violation the parsed request no longer shows: duplicate
// Host fields, malformed lines, and the time that the request took.

// lengthOf returns the length of a request's head in bytes, assuming one space after each colon and
// CRLF after each line.
func lengthOf(r *http.Request) int {
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

// headOf reconstructs the head of a request, with only the fields that package echo examines.
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
	for _, name := range echo.FieldsExamined {
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

// refuse sends a refusal, and has net/http close the connection.
func refuse(w http.ResponseWriter, r *echo.Refusal) {
	header := w.Header()
	header.Set("Connection", "close")
	for field := range strings.Lines(r.Fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(field), ": ")
		header.Add(name, value)
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(r.Reason + "\n"))
}
