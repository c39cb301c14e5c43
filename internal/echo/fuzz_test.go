package echo

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// conversations holds seeds for the tests that parse frames. Most masks are zero, so that the
// fuzzer changes the unmasked payload.
var conversations = []string{
	// A text, and a binary.
	"\x81\x85\x00\x00\x00\x00Hello\x82\x83\x00\x00\x00\x00\xff\xfe\x00",
	// Empty messages.
	"\x81\x80\x00\x00\x00\x00\x82\x80\x00\x00\x00\x00",
	// A text with a mask.
	"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
	// A text in three fragments, with a ping and a pong between.
	"\x01\x83\x00\x00\x00\x00fra\x89\x81\x00\x00\x00\x00?\x00\x82\x00\x00\x00\x00gm\x8a\x80\x00\x00\x00\x00\x80\x83\x00\x00\x00\x00ent",
	// Empty fragments.
	"\x02\x80\x00\x00\x00\x00\x00\x80\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00",
	// A character over two fragments, and one over the end of a message.
	"\x01\x82\x00\x00\x00\x00\xe2\x82\x80\x81\x00\x00\x00\x00\xac\x81\x82\x00\x00\x00\x00\xe2\x82",
	// Characters of two, three and four bytes.
	"\x81\x8a\x00\x00\x00\x00é€x𐍈",
	// A surrogate, an overlong slash, and a code point beyond U+10FFFF.
	"\x81\x83\x00\x00\x00\x00\xed\xa0\x80",
	"\x01\x81\x00\x00\x00\x00/\x80\x82\x00\x00\x00\x00\xc0\xaf",
	"\x81\x84\x00\x00\x00\x00\xf4\x90\x80\x80",
	// Closes: without body, with half a code, with a code, with a reason, with
	// a code that is not allowed, with a reason that is not UTF-8.
	"\x88\x80\x00\x00\x00\x00\x89\x80\x00\x00\x00\x00",
	"\x88\x81\x00\x00\x00\x00\x03",
	"\x88\x82\x00\x00\x00\x00\x03\xe8",
	"\x88\x85\x00\x00\x00\x00\x03\xe8bye",
	"\x88\x82\x00\x00\x00\x00\x03\xed",
	"\x88\x84\x00\x00\x00\x00\x03\xe8\xe2\x82",
	// Not masked; a reserved bit; a reserved opcode; a continuation without a message; a text
	// inside a message.
	"\x81\x05Hello",
	"\xc1\x80\x00\x00\x00\x00",
	"\x83\x80\x00\x00\x00\x00",
	"\x80\x80\x00\x00\x00\x00",
	"\x01\x80\x00\x00\x00\x00\x81\x80\x00\x00\x00\x00",
	// A fragmented ping, and one that is too long.
	"\x09\x80\x00\x00\x00\x00",
	"\x89\xfe\x00\x7e\x00\x00\x00\x00",
	// Lengths of 16 and 64 bits: valid, not in the shortest form, with the top bit set.
	"\x82\xfe\x00\x7e\x00\x00\x00\x00" + strings.Repeat("0123456789ab\xfe", 10)[:126],
	"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 300),
	"\x82\xfe\x00\x7d\x00\x00\x00\x00",
	"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00",
	"\x82\xff\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",
	// The longest frame there is.
	"\x02\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04abcdefghi",
	// The beginnings of headers.
	"",
	"\x81",
	"\x81\x85\x00\x00",
	"\x82\xff\x00\x00\x00",
}

// cutBy makes c receive in, split into parts, and returns the output. The low seven bits of each
// element of cuts, over and over, are the length of a part less one. If short is true, the top bit
// means that the caller has no memory to keep a frame.
func cutBy(c *connection, in, cuts []byte, short bool) (output []byte) {
	for i := 0; len(in) > 0; i++ {
		n, keep := len(in), true
		if len(cuts) > 0 {
			cut := cuts[i%len(cuts)]
			n, keep = min(n, 1+int(cut&0x7f)), !short || cut&0x80 == 0
		}
		output = append(output, c.arrive(in[:n], keep)...)
		in = in[n:]
	}
	return output
}

// FuzzFrames checks that the output is the same however the input is split, and equal to the
// answers of the reference: frame by frame, or message by message if frames are cut through,
// because of their length or for lack of memory. After each call the connection checks all limits.
func FuzzFrames(f *testing.F) {
	for _, c := range conversations {
		f.Add([]byte(c), []byte{0}, uint16(0))
		f.Add([]byte(c), []byte{2, 0x85, 0, 0xff}, uint16(7))
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte, maxMessage uint16) {
		checkFrames(t, in, cuts, uint64(maxMessage))
	})
}

func checkFrames(t testing.TB, in, cuts []byte, maxMessage uint64) {
	cfg := usual()
	cfg.MaxFrame = math.MaxInt // no frame is cut through
	cfg.MaxMessage = 1 << 40   // refuses the frames that are too long even for MaxFrame
	if maxMessage > 0 {
		cfg.MaxMessage = maxMessage
	}
	want := refer(in, cfg.MaxMessage)

	whole := newConnection(t, cfg)
	whole.state = Upgraded()
	output := slices.Clone(whole.arrive(in, true))
	if got := answersIn(t, output, want.failed); !slices.Equal(got, want.answers) {
		t.Fatalf("got %+v,\nwant %+v", got, want.answers)
	}
	if done := whole.state.phase == Done; done != want.closed || done && whole.state.Code() != int(want.code) {
		t.Fatalf("got phase %d, code %d; want closed %t, code %d", whole.state.phase, whole.state.code, want.closed, want.code)
	}

	cut := newConnection(t, cfg)
	cut.state = Upgraded()
	if got := cutBy(cut, in, cuts, false); !bytes.Equal(got, output) {
		t.Fatalf("got %s,\nbut %s for split input", gist(output), gist(got))
	}
	if remembered(cut.state) != remembered(whole.state) || !bytes.Equal(cut.rest, whole.rest) {
		t.Fatalf("got state %+v, rest %q,\nbut %+v, %q for split input", whole.state, whole.rest, cut.state, cut.rest)
	}
	if cut.endpoint.Count != whole.endpoint.Count {
		t.Fatalf("got counters %+v,\nbut %+v for split input", whole.endpoint.Count, cut.endpoint.Count)
	}

	cfg.MaxFrame, cfg.MaxMessage = 32, maxMessage
	want = refer(in, cfg.MaxMessage)
	through := newConnection(t, cfg)
	through.state = Upgraded()
	got := answersIn(t, cutBy(through, in, cuts, true), want.failed)
	if !sameMessages(got, want) {
		t.Fatalf("got %+v with frames cut through,\nwant %+v, part %+v", got, want.answers, want.part)
	}
	if done := through.state.phase == Done; done != want.closed || done && through.state.Code() != int(want.code) {
		t.Fatalf("got phase %d, code %d; want closed %t, code %d", through.state.phase, through.state.code, want.closed, want.code)
	}
	checkGoodbye(t, cfg, in, cuts)
}

// checkGoodbye calls Goodbye in the middle of the input. The server must not send anything after
// that. The connection ends with the next close frame, or with a violation that makes it impossible
// to find one.
func checkGoodbye(t testing.TB, cfg Config, in, cuts []byte) {
	at := len(in) / 2
	if len(cuts) > 0 {
		at = int(cuts[0]) % (len(in) + 1)
	}
	c := newConnection(t, cfg)
	c.state = Upgraded()
	cutBy(c, in[:at], cuts, true)
	if c.state.phase == Done {
		return
	}
	c.endpoint.Goodbye(nil, &c.state, 1001, "")
	if output := cutBy(c, in[at:], cuts, true); len(output) > 0 {
		t.Fatalf("got %s after our close frame", gist(output))
	}
	want := &reference{rest: in, closeSent: true}
	for !want.closed && want.frame(0) {
	}
	if done := c.state.phase == Done; done != want.closed || c.state.Code() != 1001 {
		t.Fatalf("got phase %d, code %d after Goodbye at byte %d; want closed %t, code 1001", c.state.phase, c.state.code, at, want.closed)
	}
}

// remembered returns s without the fields that have no meaning any more.
func remembered(s State) State {
	if s.phase == Done {
		return State{phase: Done, code: s.code}
	}
	if s.remaining == 0 {
		s.mask, s.cut = 0, cutFrame{}
	}
	return s
}

// sameMessages reports whether frames contain the messages that the reference wants: all complete
// messages, and the part of an incomplete one that has been cut through.
func sameMessages(frames []answer, want *reference) bool {
	output := want.answers
	if want.closed {
		n, m := len(frames)-1, len(output)-1
		if n < 0 || frames[n] != output[m] {
			return false
		}
		frames, output = frames[:n], output[:m]
	}
	got, least := joined(frames), joined(slices.Clone(output))
	if want.part == nil {
		return slices.Equal(got, least)
	}
	most := joined(append(slices.Clone(output), *want.part))
	n := len(most) - 1
	switch len(got) {
	case n:
		return slices.Equal(got, least)
	case n + 1:
		var floor string
		if len(least) == len(most) {
			floor = least[n].payload
		}
		return slices.Equal(got[:n], most[:n]) && got[n].op == most[n].op && !got[n].fin &&
			strings.HasPrefix(most[n].payload, got[n].payload) && strings.HasPrefix(got[n].payload, floor)
	}
	return false
}

// Random conversations are mostly valid, and so reach deeper states than a fuzzer does in a short
// time.
func TestRandomConversations(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat this with -seed=%d", seed)
		}
	})
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		in := randomConversation(r)
		cuts := make([]byte, 1+r.IntN(8))
		for i := range cuts {
			cuts[i] = byte(r.Uint32()>>r.IntN(7)) & 0x9f
		}
		var limit uint64
		if r.IntN(4) == 0 {
			limit = 1 + r.Uint64N(1000)
		}
		checkFrames(t, in, cuts, limit)
	}
}

func randomConversation(r *rand.Rand) (in []byte) {
	inside, chars := false, []string{"a", "é", "€", "𐍈", "\ufffd", "0123456789abcdefghijklmnopqrstuvwxyz"}
	for range 1 + r.IntN(20) {
		var payload string
		for range r.IntN(12) {
			payload += chars[r.IntN(len(chars))]
		}
		f := frame{op: ws.OpCode(1 + r.IntN(2)), fin: r.IntN(3) > 0, payload: payload}
		switch n := r.IntN(100); {
		case n < 15:
			f = ping(payload[:min(len(payload), 125)])
		case n < 20:
			f = pong(payload[:min(len(payload), 125)])
		case n < 22:
			f = closing(uint16(990+r.IntN(30)), payload[:min(len(payload), 123)])
		case n < 24:
			f.payload = payload[:r.IntN(len(payload)+1)] // perhaps inside a character
		case n < 26:
			f.payload += string([]byte{byte(r.Uint32())})
		}
		if f.op < ws.OpClose {
			if inside {
				f.op = ws.OpContinuation
			}
			inside = !f.fin
		}
		w := f.wire()
		if n := r.IntN(400); n < 4 {
			w[r.IntN(len(w))] ^= 1 << r.IntN(8)
		} else if n < 6 {
			w = w[:r.IntN(len(w))]
		}
		in = append(in, w...)
	}
	return in
}

// FuzzUTF8Check compares utf8Check with package unicode/utf8, however the text is split. utf8Check
// must reject a text as soon as its first invalid byte arrives.
func FuzzUTF8Check(f *testing.F) {
	for _, c := range texts {
		f.Add([]byte(c.text), []byte{0})
		f.Add([]byte(c.text), []byte{1, 40})
	}
	f.Fuzz(func(t *testing.T, text, cuts []byte) {
		var want wellFormedText
		validBytes := want.take(text)
		var c utf8Check
		for i, from := 0, 0; from < len(text); i++ {
			to := len(text)
			if len(cuts) > 0 {
				to = min(to, from+int(cuts[i%len(cuts)])) // runs may be empty
			}
			if i > len(text) {
				to = len(text)
			}
			ok := c.next(text[from:to])
			if ok != (to <= validBytes) {
				t.Fatalf("%q after %q: got valid %t, want %t", text[from:to], text[:from], ok, !ok)
			}
			if !ok {
				break
			}
			from = to
		}
		if valid := validBytes == len(text) && c.whole(); valid != utf8.Valid(text) {
			t.Fatalf("%q: got valid %t, want %t", text, valid, !valid)
		}
	})
}

// requests holds seeds for the tests that parse requests.
var requests = []string{
	// The sample of section 1.2, with its origin and subprotocols.
	string(sample().and("Origin: http://example.com", "Sec-WebSocket-Protocol: chat, superchat").wire()),
	// The same, followed by frames.
	string(sample().wire()) + "\x81\x85\x00\x00\x00\x00Hello\x88\x80\x00\x00\x00\x00",
	// The shortest valid request, with LF alone.
	string(tersest.wire()),
	// Empty lines before the request, lists over several lines, an absolute URI.
	"\r\n\n" + string(asking("GET ws://a:80/b?c HTTP/1.1").with("Connection: a", "Upgrade: b,").and("Connection: ,Upgrade", "Upgrade: WebSocket").wire()),
	// An offer of extensions.
	string(sample().and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=10, x; y=\"z\"").wire()),
	// Repeated or malformed offers, an absolute URI with an invalid host.
	string(sample().and("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: a").wire()),
	string(sample().and("Sec-WebSocket-Extensions: x; y=\"c d\"", "Sec-WebSocket-Extensions: x;").wire()),
	string(asking("GET http://user@[::1]:x/ HTTP/1.1").wire()),
	// Another version, no version, HTTP/1.0, another method, the request of a browser for a page.
	string(sample().with("Sec-WebSocket-Version: 8").wire()),
	string(sample().without("Sec-WebSocket-Version").wire()),
	string(asking("GET / HTTP/1.0").wire()),
	string(asking("HEAD / HTTP/1.1").wire()),
	"GET / HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: keep-alive\r\n\r\n",
	// A browser that opens the page, and one that has it.
	string(browser("GET / HTTP/1.1").wire()),
	string(browser("HEAD / HTTP/1.1").and("If-None-Match: *").wire()),
	// A line that continues the previous one; a bare CR; a body.
	string(sample().and("X: a", " b").wire()),
	string(sample().and("X: a\rb").wire()),
	string(sample().and("Content-Length: 3").wire()) + "abc",
	// TLS, HTTP/2, nothing, an incomplete request.
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"",
	"GET / HTTP/1.1\r\nHost",
}

// FuzzUpgrade checks that the result is the same however the request is split: 101, a refusal, or
// no output yet. net/http must be able to parse each response, and must parse a request that leads
// to 101 in the same way as this package.
func FuzzUpgrade(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r), []byte{0})
		f.Add([]byte(r), []byte{30, 0, 2})
	}
	cfg := usual()
	cfg.MaxHeader = 500
	withPage(&cfg)
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		whole, cut := newConnection(t, cfg), newConnection(t, cfg)
		output := slices.Clone(whole.arrive(in, true))
		if got := cutBy(cut, in, cuts, false); !bytes.Equal(got, output) {
			t.Fatalf("got %q,\nbut %q for split input", output, got)
		}
		if remembered(cut.state) != remembered(whole.state) || !bytes.Equal(cut.rest, whole.rest) {
			t.Fatalf("got state %+v, rest %q,\nbut %+v, %q for split input", whole.state, whole.rest, cut.state, cut.rest)
		}
		if len(output) == 0 {
			if whole.state.phase != Handshake || len(whole.rest) != len(in) {
				t.Fatalf("no output in phase %d with %d of %d bytes of rest, want phase Handshake and all bytes", whole.state.phase, len(whole.rest), len(in))
			}
			return
		}
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(output)), nil)
		if err != nil {
			t.Fatalf("got %q, want an HTTP response: %v", output, err)
		}
		switch response.StatusCode {
		case http.StatusSwitchingProtocols:
		case http.StatusOK, http.StatusNotModified:
			checkPage(t, in)
			return
		default:
			checkRefusal(t, response, &whole.state, bytes.HasPrefix(bytes.TrimLeft(in, "\r\n"), []byte("HEAD ")))
			return
		}
		checkUpgrade(t, response, in)
	})
}

// checkPage checks that a request that is answered with the page asks for HTML, and is not a
// handshake.
func checkPage(t *testing.T, in []byte) {
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(in, "\r\n"))))
	if err != nil {
		return // net/http refuses some targets that this package accepts
	}
	if !strings.Contains(strings.ToLower(strings.Join(request.Header["Accept"], ",")), "text/html") || hasMember(request.Header, "Upgrade", "websocket") {
		t.Fatalf("answered %q with the page", in)
	}
}

func checkRefusal(t *testing.T, r *http.Response, s *State, head bool) {
	body, err := io.ReadAll(r.Body)
	switch {
	case head: // no body to check
	case err != nil || bytes.Count(body, []byte("\n")) != 1 || !bytes.HasSuffix(body, []byte("\n")):
		t.Fatalf("%s: got the body %q, want one line: %v", r.Status, body, err)
	}
	if !r.Close || s.phase != Done || s.Code() != r.StatusCode || r.StatusCode < 400 {
		t.Fatalf("got %s, close %t, phase %d, code %d; want close, Done and the code of the status", r.Status, r.Close, s.phase, s.Code())
	}
}

func checkUpgrade(t *testing.T, response *http.Response, in []byte) {
	in = bytes.TrimLeft(in, "\r\n")
	// The targets that both accept differ, so the target is replaced.
	method, rest, _ := bytes.Cut(in, []byte(" "))
	_, rest, _ = bytes.Cut(rest, []byte(" "))
	plain := fmt.Sprintf("%s / %s", method, rest)
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(plain)))
	if err != nil {
		t.Fatalf("accepted %q, but net/http does not: %v", in, err)
	}
	key := request.Header["Sec-Websocket-Key"]
	switch {
	case request.Method != "GET" || !request.ProtoAtLeast(1, 1) || request.ContentLength != 0:
		t.Fatalf("accepted %q with a body of %d bytes", in, request.ContentLength)
	case request.Host == "" || !slices.Equal(request.Header["Sec-Websocket-Version"], []string{"13"}) || len(key) != 1:
		t.Fatalf("accepted %q, host %q, %v", in, request.Host, request.Header)
	case !hasMember(request.Header, "Connection", "upgrade") || !hasMember(request.Header, "Upgrade", "websocket"):
		t.Fatalf("accepted %q, which does not ask for a WebSocket: %v", in, request.Header)
	}
	sum := sha1.Sum([]byte(key[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got := response.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Fatalf("key %q: got the wrong Sec-WebSocket-Accept %q", key, got)
	}
	selected := response.Header["Sec-Websocket-Protocol"]
	if len(selected) > 1 || len(selected) == 1 && !hasMember(request.Header, "Sec-WebSocket-Protocol", selected[0]) {
		t.Fatalf("selected %q of %q", selected, request.Header["Sec-Websocket-Protocol"])
	}
	if len(selected) == 0 && len(request.Header["Sec-Websocket-Protocol"]) > 0 {
		t.Fatalf("selected none of %q", request.Header["Sec-Websocket-Protocol"])
	}
	offered := strings.FieldsFunc(strings.Join(request.Header["Sec-Websocket-Protocol"], ","), func(r rune) bool { return strings.ContainsRune(", \t", r) })
	if slices.Sort(offered); len(slices.Compact(offered)) != len(offered) {
		t.Fatalf("accepted %q, where a subprotocol is offered twice", request.Header["Sec-Websocket-Protocol"])
	}
	if list, sent := request.Header["Sec-Websocket-Extensions"]; sent && !abnfList.MatchString(strings.Join(list, ",")) {
		t.Fatalf("accepted the extensions %q", list)
	}
	if len(response.Header["Sec-Websocket-Extensions"]) > 0 {
		t.Fatalf("accepted an extension: %v", response.Header)
	}
}

func hasMember(h http.Header, name, member string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(h.Values(name), ","), ","), func(m string) bool {
		return strings.EqualFold(strings.Trim(m, " \t"), member)
	})
}
