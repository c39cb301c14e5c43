package echo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// MaxPage is the maximum size in bytes of a response with a [Page].
const MaxPage = 32 << 10

// A Page is an HTML document for browsers. It is the response to a GET or HEAD request that is not
// an opening handshake and accepts text/html, on every path.
type Page struct {
	plain, gzip representation
}

// A representation is a page in one content coding (RFC 9110, section 8.4).
type representation struct {
	body   []byte
	tag    string // the entity tag, in quotes (section 8.8.3)
	fields string // header fields of a response with status 200, each with its CRLF
	cached string // header fields of a response with status 304
}

// NewPage returns the page with the given HTML. The argument gzip is the same HTML in the content
// coding gzip, and policy is the value of Content-Security-Policy. NewPage panics if a response
// could be longer than MaxPage.
func NewPage(html, gzip []byte, policy string) *Page {
	sum := sha256.Sum256(html)
	tag := hex.EncodeToString(sum[:8])
	return &Page{
		plain: newRepresentation(html, tag, "", policy),
		gzip:  newRepresentation(gzip, tag+"-gzip", "Content-Encoding: gzip\r\n", policy),
	}
}

func newRepresentation(body []byte, tag, coding, policy string) representation {
	r := representation{body: body, tag: `"` + tag + `"`}
	// A browser must ask each time, since another program may listen on the port next time, but it
	// need not fetch the page again. RFC 9110, section 15.4.5: a 304 response has these fields, too.
	r.cached = "Cache-Control: no-cache\r\nETag: " + r.tag + "\r\nVary: Accept, Accept-Encoding\r\n"
	r.fields = r.cached + coding +
		"Content-Security-Policy: " + policy + "\r\n" +
		"Content-Type: text/html; charset=utf-8\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" +
		"Referrer-Policy: no-referrer\r\n" +
		"X-Content-Type-Options: nosniff\r\n"
	const others = 256 // status line, Connection, Date and the empty line
	if len(r.fields)+len(body)+others > MaxPage {
		panic("echo: the page has " + strconv.Itoa(len(body)) + " bytes, which is too long for a response of " + strconv.Itoa(MaxPage))
	}
	return r
}

// servePage answers a request head, which has been refused as a handshake, with the page if it asks
// for it. It reports whether it has answered.
func (e *Endpoint) servePage(s *State, b *Buffer, head []byte, refusal *Refusal) bool {
	page, request := e.cfg.Page, &e.upgrader.request
	if page == nil || !request.mayAskForPage(refusal) || !acceptsHTML(head) {
		return false
	}
	r, status := &page.plain, statusOK
	if acceptsGzip(head) {
		r = &page.gzip
	}
	fields := r.fields
	if hasTag(head, r.tag) {
		status, fields = statusNotModified, r.cached
	}
	body := status == statusOK && !request.isHead()
	// The response overwrites the request.
	dst := appendHead(b.Bytes[:0], status, fields, e.cfg.Now())
	dst = append(dst, "\r\n"...)
	if body {
		dst = append(dst, r.body...)
	}
	b.Out, b.OutEnd = 0, len(dst)
	s.setPhase(Done, status)
	return true
}

// mayAskForPage reports whether a request with this refusal is a valid GET or HEAD request that is
// not meant as a handshake.
func (r *request) mayAskForPage(refusal *Refusal) bool {
	if refusal != refuseMethod || !r.isHead() {
		return refusal == refuseNotAsked
	}
	_, target, _ := bytes.Cut(r.line, []byte{' '})
	target, _, _ = bytes.Cut(target, []byte{' '})
	return !r.asksForWebSocket() && !r.body && checkTarget(target) == nil
}

// isHead reports whether the method is HEAD.
func (r *request) isHead() bool { return bytes.HasPrefix(r.line, []byte("HEAD ")) }
