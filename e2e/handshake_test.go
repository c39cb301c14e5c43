package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestUpgrade(t *testing.T) {
	s := start(t)
	for name, raw := range map[string]string{
		"the RFC's example":    request("GET /chat HTTP/1.1"),
		"any path":             request("GET /a/b?c=%20d&e HTTP/1.1"),
		"keep-alive, Upgrade":  request("GET / HTTP/1.1", "Connection: keep-alive, Upgrade"),
		"Connection twice":     request("GET / HTTP/1.1", "Connection: keep-alive", "+Connection: Upgrade"),
		"values in mixed case": request("GET / HTTP/1.1", "Upgrade: WebSocket", "Connection: uPGRADE"),
		"names in lower case": "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n" +
			"sec-websocket-key: " + sampleKey + "\r\nsec-websocket-version: 13\r\n\r\n",
		"names in upper case": "GET / HTTP/1.1\r\nHOST: x\r\nUPGRADE: websocket\r\nCONNECTION: upgrade\r\n" +
			"SEC-WEBSOCKET-KEY: " + sampleKey + "\r\nSEC-WEBSOCKET-VERSION: 13\r\n\r\n",
		"spaces around values":    request("GET / HTTP/1.1", "Connection:   Upgrade \t", "Sec-WebSocket-Version: 13 "),
		"no spaces around values": request("GET / HTTP/1.1", "Connection:Upgrade", "Sec-WebSocket-Version:13", "Sec-WebSocket-Key:"+sampleKey),
		"unknown headers":         request("GET / HTTP/1.1", "+User-Agent: none", "+Cookie: a=b; c=d", "+X-Empty:"),
		"an origin by default":    request("GET / HTTP/1.1", "+Origin: https://anywhere.example:8443"),
	} {
		t.Run(name, func(t *testing.T) {
			p := s.dial(t)
			p.sendRaw([]byte(raw))
			p.wantUpgraded()
			p.closes()
		})
	}
	t.Run("byte by byte", func(t *testing.T) {
		p := s.dial(t)
		p.check(p.writePieces(1, append([]byte(request("GET / HTTP/1.1")), encode(text("and a frame"))...)))
		p.wantUpgraded()
		p.want(text("and a frame"))
		p.closes()
	})
	t.Run("many headers, close to the limit", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw([]byte(request("GET / HTTP/1.1", "+Cookie: "+strings.Repeat("x", 7000))))
		p.wantUpgraded()
		p.closes()
	})
}

// wantUpgraded waits for a 101 response with the right accept value and without extensions.
func (p *peer) wantUpgraded() *http.Response {
	p.t.Helper()
	response, err := p.response()
	p.check(err)
	if response.StatusCode != http.StatusSwitchingProtocols || response.Proto != "HTTP/1.1" {
		body, _ := io.ReadAll(response.Body)
		p.t.Fatalf("got %s %s %q, want HTTP/1.1 101", response.Proto, response.Status, body)
	}
	wantHeader(p.t, response, "Sec-WebSocket-Accept", sampleAccept)
	for _, name := range []string{"Upgrade", "Connection"} {
		want := map[string]string{"Upgrade": "websocket", "Connection": "upgrade"}[name]
		if got := response.Header.Get(name); !strings.EqualFold(got, want) {
			p.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	wantHeader(p.t, response, "Sec-WebSocket-Extensions", "")
	return response
}

// wantHeader wants a header with exactly this value, or, for "", no such header.
func wantHeader(t *testing.T, response *http.Response, name, want string) {
	t.Helper()
	got := strings.Join(response.Header.Values(name), " | ")
	if got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

// wantRefused waits for a refusal with the given status and a body of one line of text, and for the
// end of the connection.
func (p *peer) wantRefused(status int) *http.Response {
	p.t.Helper()
	response, err := p.response()
	p.check(err)
	body, err := io.ReadAll(response.Body)
	p.check(err)
	if response.StatusCode != status {
		p.t.Fatalf("got %s %q, want %d", response.Status, body, status)
	}
	// net/http removes the Connection header and sets Close.
	if !response.Close {
		p.t.Error("want Connection: close")
	}
	if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
		p.t.Errorf("Content-Type: %q, want text/plain", got)
	}
	if response.ContentLength != int64(len(body)) {
		p.t.Errorf("got Content-Length: %d for a body of %d bytes", response.ContentLength, len(body))
	}
	if line, ended := strings.CutSuffix(string(body), "\n"); !ended || line == "" || strings.Contains(line, "\n") {
		p.t.Errorf("got body %q, want one line", body)
	}
	p.wantEOF()
	return response
}

func TestRefusals(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name   string
		raw    string
		status int
		header string // that the refusal must contain
	}{
		{"POST", request("POST / HTTP/1.1", "+Content-Length: 0"), 405, "Allow: GET"},
		{"PUT without an upgrade", "PUT / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET"},
		{"get", request("get / HTTP/1.1"), 405, "Allow: GET"},

		{"a browser's plain GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, "Upgrade: websocket"},
		{"version 8", request("GET / HTTP/1.1", "Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version: 13"},
		{"version 14", request("GET / HTTP/1.1", "Sec-WebSocket-Version: 14"), 426, "Sec-WebSocket-Version: 13"},
		{"version 130", request("GET / HTTP/1.1", "Sec-WebSocket-Version: 130"), 426, "Sec-WebSocket-Version: 13"},

		{"curl --http2", "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8\r\nAccept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: AAMAAABkAAQAAP__AAIAAAAA\r\n\r\n", 426, "Upgrade: websocket"},
		{"nginx's Connection: upgrade", "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n", 426, "Sec-WebSocket-Version: 13"},

		{"HTTP/1.0", request("GET / HTTP/1.0"), 400, ""},
		{"HTTP/0.9", "GET /\r\n\r\n", 400, ""},
		{"no Host", request("GET / HTTP/1.1", "-Host"), 400, ""},
		{"two Hosts", request("GET / HTTP/1.1", "+Host: other.example.com"), 400, ""},
		{"no Key", request("GET / HTTP/1.1", "-Sec-WebSocket-Key"), 400, ""},
		{"an empty Key", request("GET / HTTP/1.1", "Sec-WebSocket-Key: "), 400, ""},
		{"a short Key", request("GET / HTTP/1.1", "Sec-WebSocket-Key: c2hvcnQ="), 400, ""},
		{"a long Key", request("GET / HTTP/1.1", "Sec-WebSocket-Key: "+sampleKey+"AAAA"), 400, ""},
		{"a Key that is not base64", request("GET / HTTP/1.1", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!"), 400, ""},
		{"two Keys", request("GET / HTTP/1.1", "+Sec-WebSocket-Key: "+sampleKey), 400, ""},
		{"Connection: close", request("GET / HTTP/1.1", "Connection: close"), 400, ""},
		{"no Connection", request("GET / HTTP/1.1", "-Connection"), 400, ""},
		{"Connection: not-Upgrade", request("GET / HTTP/1.1", "Connection: not-Upgrade"), 400, ""},
		{"Upgrade: h2c", request("GET / HTTP/1.1", "Upgrade: h2c"), 400, ""},
		{"no Host, no Upgrade", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400, ""},
		{"a target without host", request("GET http:///chat HTTP/1.1"), 400, ""},
		{"a target with a user", request("GET http://user@h/ HTTP/1.1"), 400, ""},
		{"a repeated subprotocol", request("GET / HTTP/1.1", "+Sec-WebSocket-Protocol: chat, chat"), 400, ""},
		{"malformed extensions", request("GET / HTTP/1.1", "+Sec-WebSocket-Extensions: x; y=\"c d\""), 400, ""},
		{"a PROXY protocol header", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + request("GET / HTTP/1.1"), 400, ""},
		{"an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ""},
		{"a header without a colon", request("GET / HTTP/1.1", "+no colon here"), 400, ""},
		{"a space before the colon", request("GET / HTTP/1.1", "+X-Space : 1"), 400, ""},
		{"a path with a space", request("GET /a b HTTP/1.1"), 400, ""},
		{"garbage with a blank line", "garbage\r\n\r\n", 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.dial(t)
			p.sendRaw([]byte(c.raw))
			response := p.wantRefused(c.status)
			if name, want, ok := strings.Cut(c.header, ": "); ok {
				wantHeader(t, response, name, want)
			}
		})
	}
}

// curl --http2 sends Upgrade: h2c, and gets the same response as a plain GET.
func TestCurlHTTP2IsRefused(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		unavailable(t, "curl is not installed: %v", err)
	}
	s := start(t)
	out, err := exec.Command(curl, "--silent", "--show-error", "--include", "--http2", "--max-time", "15", "http://"+s.addr).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 426 ") || !strings.Contains(string(out), "Sec-WebSocket-Version: 13") {
		t.Errorf("curl --http2: got %v, %q, want 426", err, out)
	}
}

// A response to HEAD has no body, since the client would take it for the next response.
func TestHeadHasNoBody(t *testing.T) {
	p := start(t).dial(t)
	p.sendRaw([]byte(request("HEAD / HTTP/1.1")))
	p.SetReadDeadline(time.Now().Add(waitTimeout))
	answer, err := io.ReadAll(p.r)
	p.check(err)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 405 ") || !strings.HasSuffix(string(answer), "\r\n\r\n") {
		t.Errorf("got %q, want a 405 header without a body", answer)
	}
}

// Input that cannot become a request is refused at once, without waiting for a blank line.
func TestGarbageIsRefusedAtOnce(t *testing.T) {
	s := start(t)
	for name, raw := range map[string]string{
		"a line":            "this is not HTTP\r\n",
		"a TLS ClientHello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a WebSocket frame": string(encode(text("too early"))),
		"zeros":             "\x00\x00\x00\x00",
		"an SSH client":     "SSH-2.0-OpenSSH_9.2\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := s.dial(t)
			began := time.Now()
			p.sendRaw([]byte(raw))
			p.wantRefused(400)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("refused after %v, want an immediate refusal, not a timeout", took)
			}
		})
	}
}

func TestMaxHeader(t *testing.T) {
	s := start(t, "-max-header", "1024")
	fits := request("GET / HTTP/1.1", "+Cookie: ")
	cookie := strings.Repeat("x", 1024-len(fits))
	t.Run("at the limit", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw([]byte(request("GET / HTTP/1.1", "+Cookie: "+cookie)))
		p.wantUpgraded()
		p.closes()
	})
	t.Run("at the limit, with a frame", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw(append([]byte(request("GET / HTTP/1.1", "+Cookie: "+cookie)), encode(text("Hello"))...))
		p.wantUpgraded()
		p.want(text("Hello"))
		p.closes()
	})
	t.Run("one more", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw([]byte(request("GET / HTTP/1.1", "+Cookie: x"+cookie)))
		p.wantRefused(431)
	})
	t.Run("without an end", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw([]byte("GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", 1024)))
		p.wantRefused(431)
	})
}

// Single sign-on creates cookies of 15 KB. By default the listener and the admin server accept
// them, and the refusal of a longer request names the limit.
func TestMaxHeaderByDefault(t *testing.T) {
	s := start(t)
	fits := len(request("GET /echo HTTP/1.1", "+Cookie: "))
	for _, way := range []struct{ name, addr string }{{"listener", s.addr}, {"admin", s.admin}} {
		t.Run(way.name, func(t *testing.T) {
			dial := func() *peer {
				w, err := connect(way.addr)
				return newPeer(t, w, err)
			}
			for _, length := range []int{15_000, 16 << 10} {
				p := dial()
				p.sendRaw([]byte(request("GET /echo HTTP/1.1", "+Cookie: "+strings.Repeat("x", length-fits))))
				p.wantUpgraded()
				p.closes()
			}
			p := dial()
			p.sendRaw([]byte(request("GET /echo HTTP/1.1", "+Cookie: "+strings.Repeat("x", 16<<10+1-fits))))
			response, err := p.response()
			p.check(err)
			body, err := io.ReadAll(response.Body)
			p.check(err)
			if response.StatusCode != 431 || !strings.Contains(string(body), "16384 bytes") || !strings.Contains(string(body), "-max-header") {
				t.Errorf("got %s %q, want 431 with the limit and -max-header", response.Status, body)
			}
		})
	}
}

func TestHandshakeTimeout(t *testing.T) {
	s := start(t, "-handshake-timeout", "300ms")
	raw := request("GET / HTTP/1.1")
	t.Run("half a request", func(t *testing.T) {
		p := s.dial(t)
		p.sendRaw([]byte(raw[:len(raw)-2]))
		p.wantRefused(408)
	})
	// Browsers open connections in advance. The server must close one without a request, with or
	// without a response.
	t.Run("no request", func(t *testing.T) {
		s.dial(t).wantDisconnect()
	})
	// The timeout covers the whole request, so single bytes do not extend it.
	t.Run("a slow request", func(t *testing.T) {
		p := s.dial(t)
		gone := make(chan struct{})
		go p.drip(gone)
		p.wantDisconnect()
		close(gone)
	})
	t.Run("an upgraded connection stays open", func(t *testing.T) {
		p := s.upgrade(t)
		// The timeout of another connection shows that enough time has passed.
		q := s.dial(t)
		q.sendRaw([]byte(raw[:10]))
		q.wantRefused(408)
		p.send(text("Hello"))
		p.want(text("Hello"))
		p.closes()
	})
}

// drip sends one byte every 50 ms until done is closed.
func (p *peer) drip(done <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			p.Write([]byte("X")) // the reader sees any error
		}
	}
}

func TestOrigins(t *testing.T) {
	s := start(t, "-origins", "good.example,also.example,app.example:443,*.wild.example")
	for origin, welcome := range map[string]bool{
		"":                              true, // not a browser
		"https://good.example":          true,
		"http://also.example":           true,
		"http://GOOD.example":           true,
		"https://app.example":           true,
		"https://app.example:443":       true,
		"http://app.example":            false,
		"https://a.b.wild.example":      true,
		"https://wild.example":          false,
		"https://evilwild.example":      false,
		"good.example":                  false,
		"https://good.example/":         false,
		"https://evil.example":          false,
		"https://good.example.evil.com": false,
		"https://notgood.example":       false,
		"null":                          false,
	} {
		t.Run(fmt.Sprintf("%q", origin), func(t *testing.T) {
			p := s.dial(t)
			if origin == "" {
				p.sendRaw([]byte(request("GET / HTTP/1.1")))
			} else {
				p.sendRaw([]byte(request("GET / HTTP/1.1", "+Origin: "+origin)))
			}
			if welcome {
				p.wantUpgraded()
				p.closes()
			} else {
				p.wantRefused(403)
			}
		})
	}
}

func TestSubprotocols(t *testing.T) {
	offers := func(values ...string) string {
		var edits []string
		for _, value := range values {
			edits = append(edits, "+Sec-WebSocket-Protocol: "+value)
		}
		return request("GET / HTTP/1.1", edits...)
	}
	servers := map[string]*server{}
	for _, list := range []string{"any", "mqtt,chat"} {
		servers[list] = start(t, "-subprotocols", list)
	}
	for _, c := range []struct {
		name, list, raw, want string
	}{
		{"any, none offered", "any", offers(), ""},
		{"any, one", "any", offers("chat"), "chat"},
		{"any, the first", "any", offers("chat, superchat"), "chat"},
		{"any, the first of two lines", "any", offers("superchat", "chat"), "superchat"},
		{"any, case unclosable", "any", offers("Graphql-WS,chat"), "Graphql-WS"},
		{"a list, one of it", "mqtt,chat", offers("superchat, chat"), "chat"},
		{"a list, on the second line", "mqtt,chat", offers("superchat", "chat"), "chat"},
		{"a list, none of it", "mqtt,chat", offers("superchat"), ""},
		{"a list, none offered", "mqtt,chat", offers(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := servers[c.list].dial(t)
			p.sendRaw([]byte(c.raw))
			wantHeader(t, p.wantUpgraded(), "Sec-WebSocket-Protocol", c.want)
			p.closes()
		})
	}
}
