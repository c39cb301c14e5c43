package echo

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const (
	html     = "<!doctype html><title>page</title>"
	squeezed = "\x1f\x8b, as far as this package knows"
	policy   = "default-src 'none'"
)

func withPage(cfg *Config) { cfg.Page = NewPage([]byte(html), []byte(squeezed), policy) }

// browser returns the request of a browser that opens a page.
func browser(line string) opening {
	return opening{line, []string{
		"Host: localhost:8080",
		"Connection: keep-alive",
		"Upgrade-Insecure-Requests: 1",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
		"Accept-Encoding: gzip, deflate",
	}, "\r\n"}
}

// wantsPage wants a response with the page in one of its codings, or with status 304, and the end
// of the connection.
func (p *peer) wantsPage(code int, body, why string, fields ...string) {
	p.t.Helper()
	status, header, got := p.readResponse(why)
	if status != fmt.Sprint(code, " ", http.StatusText(code)) {
		p.t.Fatalf("got %s %q, want %d:\n%s", status, got, code, why)
	}
	want := body
	if p.head || code == http.StatusNotModified {
		want = ""
	}
	if string(got) != want {
		p.t.Errorf("%s: got the body %q, want %q:\n%s", status, got, want, why)
	}
	fields = append(fields, "Connection: close", "Date: Sun, 22 Nov 2026 12:00:00 GMT", "Vary: Accept, Accept-Encoding", "Cache-Control: no-cache")
	if code == http.StatusOK {
		fields = append(fields, "Content-Type: text/html; charset=utf-8", fmt.Sprint("Content-Length: ", len(body)),
			"Content-Security-Policy: "+policy, "X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer")
	}
	if body == squeezed && code == http.StatusOK {
		fields = append(fields, "Content-Encoding: gzip")
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if got := header.Get(name); got != value {
			p.t.Errorf("%s: got %s: %q, want %q:\n%s", status, name, got, value, why)
		}
		header.Del(name)
	}
	if tag := header.Get("ETag"); len(tag) < 10 {
		p.t.Errorf("%s: got ETag %q, want one", status, tag)
	}
	header.Del("ETag")
	if len(header) > 0 {
		p.t.Errorf("%s: got the superfluous fields %v", status, header)
	}
	p.unread = nil
	p.wantsEnd(code, why)
}

func TestPage(t *testing.T) {
	var rules []rule
	get, head := browser("GET / HTTP/1.1"), browser("HEAD / HTTP/1.1")
	for _, c := range []struct {
		name  string
		sends sendable
		body  string
	}{
		{"a browser gets the page in gzip", get, squeezed},
		{"HEAD gets the fields of the same response (RFC 9110, 9.3.2)", head, squeezed},
		{"every path and query has the page", browser("GET /a/b?c HTTP/1.1"), squeezed},
		{"a target may be an absolute URI", browser("GET http://localhost:8080/ HTTP/1.1"), squeezed},
		{"an Upgrade to another protocol is ignored", get.with("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), squeezed},
		{"an Origin does not matter", get.and("Origin: http://example.com"), squeezed},
		{"text/html is matched without case", get.with("Accept: TEXT/Html"), squeezed},
		{"any weight above 0 will do (RFC 9110, 12.4.2)", get.with("Accept: text/html; q=0.001"), squeezed},
		{"Accept may be spread over lines", get.with("Accept: image/png").and("Accept: text/html"), squeezed},
		{"a weight may end with its dot", get.with("Accept: text/html;q=1."), squeezed},
		{"no Accept-Encoding: the page as it is", get.without("Accept-Encoding"), html},
		{"an empty Accept-Encoding accepts no coding (RFC 9110, 12.5.3)", get.with("Accept-Encoding:"), html},
		{"a refused gzip", get.with("Accept-Encoding: gzip;q=0, *"), html},
		{"a gzip below identity", get.with("Accept-Encoding: gzip;q=0.5, identity"), html},
		{"a gzip above identity", get.with("Accept-Encoding: identity;q=0.5, gzip;q=0.6"), squeezed},
		{"any coding", get.with("Accept-Encoding: *"), squeezed},
		{"gzip under its old name (RFC 9110, 8.4.1.3)", get.with("Accept-Encoding: x-gzip"), squeezed},
		{"other codings", get.with("Accept-Encoding: br, zstd, deflate"), html},
		{"a malformed Accept-Encoding accepts no coding", get.with("Accept-Encoding: gzip;q=2"), html},
	} {
		rules = append(rules, rule{name: c.name, with: withPage, fresh: true, talk: func(p *peer) {
			p.sends(c.sends)
			p.wantsPage(200, c.body, c.name)
		}})
	}
	converse(t, rules)
}

func TestPageIsNotForOtherRequests(t *testing.T) {
	get, head := browser("GET / HTTP/1.1"), browser("HEAD / HTTP/1.1")
	var rules []rule
	for _, c := range []struct {
		name   string
		sends  sendable
		status int
	}{
		{"any type, as curl sends it", get.with("Accept: */*"), 426},
		{"any text", get.with("Accept: text/*"), 426},
		{"no Accept", get.without("Accept"), 426},
		{"an empty Accept", get.with("Accept:"), 426},
		{"text/html with weight 0", get.with("Accept: text/html;q=0, */*"), 426},
		{"text/html with weight 0.000", get.with("Accept: text/html;q=0.000"), 426},
		{"text/html of a certain level", get.with("Accept: text/html;level=1"), 426},
		{"a type that begins with text/html", get.with("Accept: text/html5, text/html/"), 426},
		{"a malformed weight", get.with("Accept: text/html;q=1.001"), 426},
		{"a weight of four digits", get.with("Accept: text/html;q=0.0001"), 426},
		{"a weight without value", get.with("Accept: text/html;q"), 426},
		{"a malformed Accept", get.with("Accept: text/html, a b"), 426},
		{"a malformed Accept on another line", get.and("Accept: ;"), 426},
		{"a handshake from a page that accepts text/html", sample().and("Accept: text/html"), 101},
		{"a malformed handshake", sample().without("Sec-WebSocket-Key").and("Accept: text/html"), 400},
		{"another version of WebSocket", sample().with("Sec-WebSocket-Version: 14", "Accept: text/html"), 426},
		{"HTTP/1.0", browser("GET / HTTP/1.0"), 400},
		{"another method", browser("POST / HTTP/1.1"), 405},
		{"a malformed target", browser("GET /% HTTP/1.1"), 400},
		{"a malformed field after a valid Accept", get.and("X"), 400},
		{"a body", get.and("Content-Length: 1"), 400},
		{"HEAD for any type", head.with("Accept: */*"), 405},
		{"HEAD as a handshake", asking("HEAD / HTTP/1.1").and("Accept: text/html"), 405},
		{"HEAD with a body", head.and("Content-Length: 1"), 405},
		{"HEAD with a malformed target", browser("HEAD * HTTP/1.1"), 405},
		{"HEAD without Host", head.without("Host"), 400},
	} {
		rules = append(rules, rule{name: c.name, with: withPage, fresh: true, talk: func(p *peer) {
			p.sends(c.sends)
			if c.status == 101 {
				p.wantsUpgrade(c.name)
				return
			}
			p.wantsRefusal(c.status, c.name)
		}})
	}
	for _, o := range []opening{get, head} {
		status := map[string]int{"G": 426, "H": 405}[o.line[:1]]
		rules = append(rules, rule{name: "a server without a page: " + o.line, fresh: true, talk: func(p *peer) {
			p.sends(o)
			p.wantsRefusal(status, "Config.Page is nil")
		}})
	}
	converse(t, rules)
}

// tagOf returns the entity tag of the page in the coding that the request accepts.
func tagOf(t *testing.T, o opening) string {
	t.Helper()
	cfg := usual()
	withPage(&cfg)
	response := string(newConnection(t, cfg).arrive(o.wire(), true))
	_, tag, _ := strings.Cut(response, "ETag: ")
	tag, _, found := strings.Cut(tag, "\r\n")
	if !found {
		t.Fatalf("got no ETag in %q", response)
	}
	return tag
}

func TestPageIsSentOnlyIfItHasChanged(t *testing.T) {
	get, head := browser("GET / HTTP/1.1"), browser("HEAD / HTTP/1.1")
	plain := get.without("Accept-Encoding")
	tag, plainTag := tagOf(t, get), tagOf(t, plain)
	if tag == plainTag {
		t.Fatalf("both codings have the tag %s (RFC 9110, section 8.8.3.3)", tag)
	}
	var rules []rule
	for _, c := range []struct {
		name   string
		sends  opening
		status int
		body   string
	}{
		{"the tag of the page", get.and("If-None-Match: " + tag), 304, squeezed},
		{"the tag of the page in the other coding", get.and("If-None-Match: " + plainTag), 200, squeezed},
		{"the page as it is", plain.and("If-None-Match: " + plainTag), 304, html},
		{"HEAD", head.and("If-None-Match: " + tag), 304, squeezed},
		{"a weak tag (RFC 9110, 13.1.2)", get.and("If-None-Match: W/" + tag), 304, squeezed},
		{"any tag", get.and("If-None-Match: *"), 304, squeezed},
		{"a list of tags", get.and(`If-None-Match: "a,b", W/"", ,` + tag), 304, squeezed},
		{"a list without the tag", get.and(`If-None-Match: "a", "b"`), 200, squeezed},
		{"another tag", get.and(`If-None-Match: "x` + tag[1:]), 200, squeezed},
		{"the tag without quotes", get.and("If-None-Match: " + strings.Trim(tag, `"`)), 200, squeezed},
		{"the tag without its last quote", get.and("If-None-Match: " + tag[:len(tag)-1]), 200, squeezed},
		{"tags without a comma", get.and(`If-None-Match: "a" ` + tag), 200, squeezed},
		{"a tag with text after it", get.and("If-None-Match: " + tag + "x"), 200, squeezed},
		{"a weak prefix in lower case", get.and("If-None-Match: w/" + tag), 200, squeezed},
		{"any tag within a list", get.and("If-None-Match: *, " + tag), 200, squeezed},
		{"an empty list", get.and("If-None-Match:"), 200, squeezed},
		{"If-None-Match twice", get.and("If-None-Match: "+tag, "If-None-Match: "+tag), 200, squeezed},
	} {
		rules = append(rules, rule{name: c.name, with: withPage, fresh: true, talk: func(p *peer) {
			p.sends(c.sends)
			p.wantsPage(c.status, c.body, c.name)
		}})
	}
	converse(t, rules)
}

// net/http must read the response with the page as this package means it.
func TestPageForNetHTTP(t *testing.T) {
	cfg := usual()
	withPage(&cfg)
	for _, method := range []string{"GET", "HEAD"} {
		output := newConnection(t, cfg).arrive(browser(method+" / HTTP/1.1").wire(), true)
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(output)), &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(squeezed)) || method == "GET" && string(body) != squeezed || !r.Close {
			t.Errorf("%s: got %q, Content-Length %d, close %t, err %v", method, body, r.ContentLength, r.Close, err)
		}
	}
}

func TestLongestPageFitsMaxPage(t *testing.T) {
	size := MaxPage
	var page *Page
	for ; page == nil; size-- {
		func() {
			defer func() { _ = recover() }()
			page = NewPage(make([]byte, size), make([]byte, size), policy)
		}()
	}
	if size < 30_000 {
		t.Errorf("the longest page has %d bytes, want room for 30,000", size)
	}
	cfg := usual()
	cfg.Page = page
	for _, o := range []opening{browser("GET / HTTP/1.1"), browser("GET / HTTP/1.1").without("Accept-Encoding")} {
		if output := newConnection(t, cfg).arrive(o.wire(), true); len(output) > MaxPage || !bytes.HasSuffix(output, make([]byte, size)) {
			t.Errorf("got a response of %d bytes, want at most %d with the whole page", len(output), MaxPage)
		}
	}
}
