package wire

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const goodResponse = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n"

func TestCheckResponse(t *testing.T) {
	good := strings.Replace(goodResponse, "KEY", AcceptKey(key(7)), 1)
	for _, c := range []struct{ old, new, wants string }{
		{"", "", ""},
		{"101 Switching Protocols", "101", ""},
		{"Upgrade: websocket", "UPGRADE:WebSocket", ""},
		{"Connection: Upgrade", "Connection: keep-alive, upgrade", ""},
		{"101 Switching Protocols", "503 Service Unavailable", "503 Service Unavailable"},
		{"101 Switching Protocols", "1010 x", "1010"},
		{"HTTP/1.1", "HTTP/1.0", "HTTP/1.0"},
		{"Upgrade: websocket\r\n", "", "Upgrade: websocket"},
		{"Upgrade: websocket", "Upgrade: h2c", "Upgrade: websocket"},
		{"Connection: Upgrade", "Connection: close", "Connection: Upgrade"},
		{AcceptKey(key(7)), AcceptKey(key(8)), "Sec-WebSocket-Accept"},
		{"\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "permessage-deflate"},
		{"\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", "chat"},
	} {
		err := CheckResponse([]byte(strings.Replace(good, c.old, c.new, 1)), 7)
		if (err == nil) != (c.wants == "") || err != nil && !strings.Contains(err.Error(), c.wants) {
			t.Errorf("with %q instead of %q: got error %v, want %q", c.new, c.old, err, c.wants)
		}
	}
}

// The example is from RFC 6455, section 1.3.
func TestAcceptKey(t *testing.T) {
	if got := AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %q", got)
	}
}

// A subprotocol that was not offered fails the connection (RFC 6455, section 4.1).
func TestSubprotocolMustHaveBeenOffered(t *testing.T) {
	good := strings.Replace(goodResponse, "KEY", AcceptKey(key(7)), 1)
	for fields, wants := range map[string]string{
		"":                                       "",
		"Sec-WebSocket-Protocol: chat\r\n":       "",
		"sec-websocket-protocol:soap \r\n":       "",
		"Sec-WebSocket-Protocol: Chat\r\n":       `"Chat" is not one of those offered: chat, soap`,
		"Sec-WebSocket-Protocol: mqtt\r\n":       `"mqtt" is not one of those offered`,
		"Sec-WebSocket-Protocol: chat, soap\r\n": "is not one of those offered",
		"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n":         "occurs twice",
		"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x-compress\r\n": "x-compress",
	} {
		err := CheckResponse([]byte(strings.Replace(good, "\r\n\r\n", "\r\n"+fields+"\r\n", 1)), 7, "chat", "soap")
		if (err == nil) != (wants == "") || err != nil && !strings.Contains(err.Error(), wants) {
			t.Errorf("%q: got error %v, want %q", fields, err, wants)
		}
	}
}

// FuzzInterimResponses checks that CutResponse finds the final response exactly when it is
// complete, for any 1xx responses before it and any bytes after it.
func FuzzInterimResponses(f *testing.F) {
	f.Add("100 Continue\r\n\r\n", uint8(3), []byte("\x81\x00"))
	f.Add("103 Early Hints\r\nLink: x\r\n\r\n", uint8(1), []byte("HTTP/1.1 "))
	f.Fuzz(func(t *testing.T, text string, times uint8, behind []byte) {
		interim := []byte("HTTP/1.1 " + text)
		if !isInterim(interim) || bytes.Index(interim, endOfHeader) != len(interim)-len(endOfHeader) {
			return
		}
		before := bytes.Repeat(interim, int(times%8))
		all := slices.Concat(before, []byte(goodResponse), behind)
		for n := range all {
			response, rest, whole := CutResponse(all[:n])
			if whole != (n >= len(before)+len(goodResponse)) || whole && (string(response) != goodResponse || len(rest) != n-len(before)-len(goodResponse)) {
				t.Fatalf("%d bytes of %q: got response %q, rest %q, whole %v", n, all, response, rest, whole)
			}
		}
	})
}

// FuzzField checks that every accepted header field becomes exactly one field of the request, with
// the same value.
func FuzzField(f *testing.F) {
	for _, text := range []string{"A: b", "A:", ":b", "A b: c", "A: b\r\nC: d", "A: b\nC: d", "A: \x00", "A: é", "Host: x", "A:\tb\t", "Content-Length: 1", "A: b\x7f"} {
		f.Add(text)
	}
	u, err := url.Parse("ws://example.com/")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseField(text)
		if err != nil {
			return
		}
		head, err := RequestHead(u, []Field{x}, nil)
		if err != nil {
			return // too long
		}
		plain, err := RequestHead(u, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		request := string(AppendRequest(nil, head, 1))
		lines, before := strings.Count(request, "\n"), strings.Count(string(AppendRequest(nil, plain, 1)), "\n")
		if strings.EqualFold(x.Name, "Host") {
			before--
		}
		if lines != before+1 || strings.Count(request, "\r") != lines || !strings.Contains(request, "\r\n"+x.Name+": "+x.Value+"\r\n") && !strings.EqualFold(x.Name, "Host") {
			t.Fatalf("%q becomes %q", text, request)
		}
	})
}
