package echo

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// This file has the vocabulary of the tests of this package.
//
// A rule tests one rule of the protocol by a conversation: the peer sends bytes, and wants certain
// output, with a reason. Every rule runs once per delivery, since the way in which the network
// splits the input must not change the output. A rule fails if the server sends more output than
// the rule wants.

var seedFlag = flag.Uint64("seed", 0, "random `seed` for the splitting of the input; 0: a new one for each test")

// noon is the time of all tests.
var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// A rule is a rule of the protocol, with the section of the RFC in its name.
type rule struct {
	name  string
	with  func(*Config) // changes the usual configuration; nil: no change
	fresh bool          // the conversation begins before the opening handshake
	cuts  bool          // the server cuts frames through, at places that depend on the delivery
	talk  func(p *peer)
}

// A delivery is a way in which the bytes of a peer arrive.
type delivery struct {
	name string
	cut  func(input []byte, r *rand.Rand) int // returns how many bytes of input arrive next
	keep func(r *rand.Rand) bool              // reports whether the caller has memory for the rest
}

var deliveries = []delivery{
	{"whole", atOnce, always},
	{"byte by byte", byteByByte, always},
	{"cut at random", atRandom, always},
	{"cut at random, again", atRandom, always},
	{"cut at random, memory short at times", atRandom, sometimes},
	{"byte by byte, memory spent", byteByByte, never},
	{"cut at random, memory spent", atRandom, never},
}

func atOnce(input []byte, _ *rand.Rand) int { return len(input) }

// byteByByte returns 1, but for long input it takes large steps in between, to save time.
func byteByByte(input []byte, _ *rand.Rand) int {
	if len(input) > 4096 && len(input)&1 == 0 {
		return 997
	}
	return 1
}

func atRandom(input []byte, r *rand.Rand) int {
	return min(len(input), 1+r.IntN(1<<r.IntN(17)+len(input)/16))
}

func always(*rand.Rand) bool      { return true }
func never(*rand.Rand) bool       { return false }
func sometimes(r *rand.Rand) bool { return r.IntN(2) == 0 }

// converse runs every rule with every delivery.
func converse(t *testing.T, rules []rule) {
	t.Helper()
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			var whole *peer
			for _, d := range deliveries {
				seed := *seedFlag
				if seed == 0 {
					seed = rand.Uint64()
				}
				ok := t.Run(d.name, func(t *testing.T) {
					t.Cleanup(func() {
						if t.Failed() {
							t.Logf("repeat this with -seed=%d", seed)
						}
					})
					p := newPeer(t, r, d, seed)
					r.talk(p)
					p.wantsNothing("the rule wants no more output")
					if whole == nil {
						whole = p
					}
					p.wantsSameAs(whole)
				})
				if !ok {
					return // the other deliveries would fail in the same way
				}
			}
		})
	}
}

func usual() Config {
	return Config{
		MaxHeader:      8 << 10,
		MaxFrame:       1 << 17,
		AnySubprotocol: true,
		AnyOrigin:      true,
		Now:            func() time.Time { return noon },
	}
}

// A peer is the client's end of a conversation.
type peer struct {
	t        *testing.T
	conn     *connection
	delivery delivery
	random   *rand.Rand
	cuts     bool   // the server may have to cut frames through
	received []byte // all output of the server
	unread   []byte // the end of received, which no wants method has read yet
	head     bool   // the request is a HEAD request
}

func newPeer(t *testing.T, r rule, d delivery, seed uint64) *peer {
	cfg := usual()
	if r.with != nil {
		r.with(&cfg)
	}
	p := &peer{
		t:        t,
		conn:     newConnection(t, cfg),
		delivery: d,
		random:   rand.New(rand.NewPCG(seed, 0)),
		cuts:     r.cuts || !d.keep(rand.New(rand.NewPCG(seed, 0))) || d.name == "cut at random, memory short at times",
	}
	if !r.fresh {
		p.conn.state = Upgraded()
	}
	return p
}

// A sendable is something that a peer can send.
type sendable interface{ wire() []byte }

// sends makes the server receive all arguments, split by the peer's delivery.
func (p *peer) sends(all ...sendable) {
	p.t.Helper()
	var bytes []byte
	for _, s := range all {
		bytes = append(bytes, s.wire()...)
	}
	p.head = p.head || strings.HasPrefix(string(bytes), "HEAD ")
	for len(bytes) > 0 {
		n := p.delivery.cut(bytes, p.random)
		p.receives(p.conn.arrive(bytes[:n], p.delivery.keep(p.random)))
		bytes = bytes[n:]
	}
}

func (p *peer) receives(output []byte) {
	p.received = append(p.received, output...)
	p.unread = append(p.unread, output...)
}

// wantsSameAs wants the output and the counters to be the same as those of another delivery, unless
// frames are cut through.
func (p *peer) wantsSameAs(other *peer) {
	p.t.Helper()
	if p.cuts || other.cuts {
		return
	}
	if !bytes.Equal(p.received, other.received) {
		p.t.Errorf("got %s,\nwant %s, as with delivery %q", gist(p.received), gist(other.received), other.delivery.name)
	}
	if p.conn.endpoint.Count != other.conn.endpoint.Count {
		p.t.Errorf("got counters %+v,\nwant %+v, as with delivery %q", p.conn.endpoint.Count, other.conn.endpoint.Count, other.delivery.name)
	}
}

// serverCloses makes the server end the connection from its side.
func (p *peer) serverCloses(code ws.StatusCode, reason string) {
	p.t.Helper()
	output := p.conn.endpoint.Goodbye(nil, &p.conn.state, code, reason)
	if len(output) >= Tailroom {
		p.t.Fatalf("Goodbye appended %d bytes, want less than Tailroom", len(output))
	}
	p.conn.checkState()
	p.receives(output)
}

// serverRefuses makes the server refuse the connection.
func (p *peer) serverRefuses(r *Refusal) {
	p.t.Helper()
	p.receives(p.conn.endpoint.Refuse(nil, &p.conn.state, r))
	p.conn.checkState()
}

// wantsFrame wants a frame next. If frames are cut through, it may come in pieces: the first has
// the opcode, the last the FIN bit, and the others are continuations.
func (p *peer) wantsFrame(op ws.OpCode, fin bool, payload, why string) {
	p.t.Helper()
	for got := ""; ; op = ws.OpContinuation {
		h, piece := p.readFrame(why)
		got += piece
		whole := len(got) >= len(payload)
		if h.OpCode != op || h.Fin != (fin && whole) || got != payload[:min(len(got), len(payload))] {
			p.t.Fatalf("got %s,\nwant %s:\n%s", describe(h, got), describe(ws.Header{OpCode: op, Fin: fin}, payload), why)
		}
		if whole {
			return
		}
		if !p.cuts || op.IsControl() || piece == "" {
			p.t.Fatalf("got only %s, want %s:\n%s", describe(h, got), describe(ws.Header{OpCode: op, Fin: fin}, payload), why)
		}
	}
}

func (p *peer) wantsText(payload, why string) {
	p.t.Helper()
	p.wantsFrame(ws.OpText, true, payload, why)
}

func (p *peer) wantsPong(payload, why string) {
	p.t.Helper()
	p.wantsFrame(ws.OpPong, true, payload, why)
}

// wantsClose wants a close frame next, with any reason. If frames are cut through, pieces of an
// incomplete message may come before it.
func (p *peer) wantsClose(code ws.StatusCode, why string) {
	p.t.Helper()
	h, body := p.readFrame(why)
	for p.cuts && !h.Fin {
		h, body = p.readFrame(why)
	}
	if h.OpCode != ws.OpClose || !h.Fin || len(body) < 2 || binary.BigEndian.Uint16([]byte(body)) != uint16(code) {
		p.t.Fatalf("got %s, want a close frame with code %d:\n%s", describe(h, body), code, why)
	}
	if !utf8.ValidString(body[2:]) {
		p.t.Fatalf("the reason %q of the server's close frame is not UTF-8 (5.5.1)", body[2:])
	}
}

// wantsFailure wants the server to fail the connection with code (7.1.7).
func (p *peer) wantsFailure(code ws.StatusCode, why string) {
	p.t.Helper()
	p.wantsClose(code, why)
	p.wantsEnd(int(code), why)
}

// wantsNothing wants no output. If frames are cut through, it ignores the pieces of an incomplete
// frame.
func (p *peer) wantsNothing(why string) {
	p.t.Helper()
	if len(p.unread) == 0 {
		return
	}
	all := p.unread
	for p.cuts && len(p.unread) > 0 {
		if h, payload := p.readFrame(why); h.Fin || h.OpCode.IsControl() || payload == "" {
			break
		}
	}
	if len(p.unread) > 0 || !p.cuts {
		p.t.Fatalf("got %s, want nothing:\n%s", gist(all), why)
	}
	p.unread = all
}

// wantsEnd wants the phase to be Done with this code, and to stay Done.
func (p *peer) wantsEnd(code int, why string) {
	p.t.Helper()
	s := &p.conn.state
	if s.Phase() != Done || s.Code() != code {
		p.t.Fatalf("got phase %d, code %d; want Done with code %d:\n%s", s.Phase(), s.Code(), code, why)
	}
	p.sends(ping("are you there?"), text("hello?"), closing(1000, ""))
	p.serverCloses(1001, "bye")
	p.serverRefuses(RefuseFull)
	if len(p.unread) > 0 {
		p.t.Fatalf("got %s after the end:\n%s", gist(p.unread), why)
	}
	if s.Code() != code {
		p.t.Fatalf("got code %d after the end, want %d", s.Code(), code)
	}
}

// wantsOpen wants the phase to be Open, a ping to be answered and a message to be echoed.
func (p *peer) wantsOpen(why string) {
	p.t.Helper()
	p.sends(ping("open?"), text("open!"))
	p.wantsPong("open?", why)
	p.wantsText("open!", why)
	if phase := p.conn.state.Phase(); phase != Open {
		p.t.Fatalf("got phase %d, want Open:\n%s", phase, why)
	}
}

// wantsUpgrade wants a 101 response with the given header fields, in addition to those that every
// such response has.
func (p *peer) wantsUpgrade(why string, fields ...string) {
	p.t.Helper()
	want := textproto.MIMEHeader{
		"Upgrade":              {"websocket"},
		"Connection":           {"Upgrade"},
		"Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, // for the key of section 1.3
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		want.Set(name, value)
	}
	status, header, body := p.readResponse(why)
	if status != "101 Switching Protocols" || fmt.Sprint(header) != fmt.Sprint(want) {
		p.t.Fatalf("got %s %v %q,\nwant 101 %v:\n%s", status, header, body, want, why)
	}
	p.unread = body
}

// wantsRefusal wants a response with the status code and the given header fields, in addition to
// those that every refusal has, and the end of the connection.
func (p *peer) wantsRefusal(code int, why string, fields ...string) {
	p.t.Helper()
	status, header, body := p.readResponse(why)
	if status != fmt.Sprint(code, " ", http.StatusText(code)) {
		p.t.Fatalf("got %s %q, want %d:\n%s", status, body, code, why)
	}
	for _, f := range append([]string{
		"Connection: close",
		"Content-Type: text/plain; charset=utf-8",
		"Date: Sun, 22 Nov 2026 12:00:00 GMT",
	}, fields...) {
		name, value, _ := strings.Cut(f, ": ")
		if all := header.Values(name); !slices.Contains(all, value) {
			p.t.Errorf("%s: got field %s: %q, want %q:\n%s", status, name, all, value, why)
		}
	}
	length := header.Get("Content-Length")
	switch {
	case p.head && len(body) > 0:
		p.t.Errorf("%s: got the body %q for a HEAD request, want none (RFC 9110, 9.3.2)", status, body)
	case p.head:
	case len(body) < 2 || bytes.IndexByte(body, '\n') != len(body)-1:
		p.t.Errorf("%s: got the body %q, want one line", status, body)
	case length != fmt.Sprint(len(body)):
		p.t.Errorf("%s: got Content-Length %s for a body of %d bytes", status, length, len(body))
	}
	p.unread = nil
	p.wantsEnd(code, why)
}

// wantsReason wants a refusal with this reason.
func (p *peer) wantsReason(code int, reason, why string, fields ...string) {
	p.t.Helper()
	if !bytes.HasSuffix(p.unread, []byte("\r\n\r\n"+reason+"\n")) {
		p.t.Errorf("got %q, want the reason %q:\n%s", p.unread, reason, why)
	}
	p.wantsRefusal(code, why, fields...)
}

// readFrame reads the next frame of the output. It uses the parser of gobwas/ws, and fails the test
// if the frame is one that a server must not send.
func (p *peer) readFrame(why string) (ws.Header, string) {
	p.t.Helper()
	if len(p.unread) == 0 {
		p.t.Fatalf("got nothing, want a frame:\n%s", why)
	}
	h, payload, rest, err := takeFrame(p.unread)
	if err != nil {
		p.t.Fatalf("got %q, want a valid frame of a server: %v:\n%s", gist(p.unread), err, why)
	}
	p.unread = rest
	return h, string(payload)
}

// readResponse reads the head of an HTTP response. It does not use net/http, which hides the
// Connection field.
func (p *peer) readResponse(why string) (status string, header textproto.MIMEHeader, body []byte) {
	p.t.Helper()
	head, body, found := bytes.Cut(p.unread, []byte("\r\n\r\n"))
	if !found {
		p.t.Fatalf("got %q, want a response:\n%s", p.unread, why)
	}
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(string(head) + "\r\n\r\n")))
	line, err := r.ReadLine()
	if err == nil {
		header, err = r.ReadMIMEHeader()
	}
	status, found = strings.CutPrefix(line, "HTTP/1.1 ")
	if err != nil || !found {
		p.t.Fatalf("got %q, want an HTTP response: %v", p.unread, err)
	}
	return status, header, body
}

// takeFrame parses a server's frame at the front of p, and returns the bytes that follow it as
// rest.
func takeFrame(p []byte) (h ws.Header, payload, rest []byte, err error) {
	r := bytes.NewReader(p)
	if h, err = ws.ReadHeader(r); err != nil {
		return h, nil, nil, err
	}
	size := len(p) - r.Len()
	switch {
	case h.Masked:
		err = fmt.Errorf("it is masked (5.1)")
	case h.Rsv != 0:
		err = fmt.Errorf("it has reserved bits (5.2)")
	case h.OpCode.IsReserved():
		err = fmt.Errorf("its opcode is reserved (5.2)")
	case h.OpCode.IsControl() && (!h.Fin || h.Length > 125):
		err = fmt.Errorf("it is a fragmented or too long control frame (5.5)")
	case ws.HeaderSize(h) != size:
		err = fmt.Errorf("its length is not in its shortest form (5.2)")
	case h.Length > int64(r.Len()):
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return h, nil, nil, err
	}
	payload = p[size : size+int(h.Length)]
	return h, payload, p[size+int(h.Length):], nil
}

func describe(h ws.Header, payload string) string {
	fin := ""
	if !h.Fin {
		fin = " without FIN"
	}
	return fmt.Sprintf("[%s%s, %d bytes: %s]", opName(h.OpCode), fin, len(payload), abridged(payload))
}

func opName(op ws.OpCode) string {
	switch op {
	case ws.OpContinuation:
		return "continuation"
	case ws.OpText:
		return "text"
	case ws.OpBinary:
		return "binary"
	case ws.OpClose:
		return "close"
	case ws.OpPing:
		return "ping"
	case ws.OpPong:
		return "pong"
	}
	return fmt.Sprintf("opcode %#x", byte(op))
}

// gist describes the output of a server.
func gist(p []byte) string {
	if bytes.HasPrefix(p, []byte("HTTP/")) {
		return abridged(string(p))
	}
	var frames []string
	for len(p) > 0 {
		h, payload, rest, err := takeFrame(p)
		if err != nil {
			frames = append(frames, fmt.Sprintf("%s (%v)", abridged(string(p)), err))
			break
		}
		frames = append(frames, describe(h, string(payload)))
		p = rest
	}
	return strings.Join(frames, " ")
}

func abridged(s string) string {
	if len(s) <= 160 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…%q", s[:80], s[len(s)-40:])
}

// raw is sent as it is.
type raw string

func (r raw) wire() []byte { return []byte(r) }

// A frame is a client's frame, valid or not.
type frame struct {
	op       ws.OpCode
	fin      bool
	rsv      byte
	unmasked bool
	form     byte // in16 or in64: the form of the length; 0: the shortest
	payload  string
}

const (
	in16 = length16
	in64 = length64
)

func text(payload string) frame             { return frame{op: ws.OpText, fin: true, payload: payload} }
func binaryOf(payload string) frame         { return frame{op: ws.OpBinary, fin: true, payload: payload} }
func ping(payload string) frame             { return frame{op: ws.OpPing, fin: true, payload: payload} }
func pong(payload string) frame             { return frame{op: ws.OpPong, fin: true, payload: payload} }
func closeWith(body string) frame           { return frame{op: ws.OpClose, fin: true, payload: body} }
func first(op ws.OpCode, part string) frame { return frame{op: op, payload: part} }
func more(part string) frame                { return frame{op: ws.OpContinuation, payload: part} }
func last(part string) frame                { return frame{op: ws.OpContinuation, fin: true, payload: part} }

func closing(code uint16, reason string) frame {
	return closeWith(string(binary.BigEndian.AppendUint16(nil, code)) + reason)
}

var sampleMask = [4]byte{0x37, 0xfa, 0x21, 0x3d} // section 5.7

// header returns the header of the frame, for a payload of n bytes.
func (f frame) header(n uint64) raw {
	b := []byte{byte(f.op) | f.rsv<<4, 0}
	if f.fin {
		b[0] |= 0x80
	}
	form := f.form
	switch {
	case form != 0:
	case n > 0xffff:
		form = in64
	case n > 125:
		form = in16
	default:
		form = byte(n)
	}
	b[1] = form
	switch form {
	case in16:
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case in64:
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if !f.unmasked {
		b[1] |= 0x80
		b = append(b, sampleMask[:]...)
	}
	return raw(b)
}

func (f frame) wire() []byte {
	b := f.header(uint64(len(f.payload))).wire()
	from := len(b)
	b = append(b, f.payload...)
	if !f.unmasked {
		for i := range b[from:] {
			b[from+i] ^= sampleMask[i%4]
		}
	}
	return b
}

// upTo returns the beginning of the frame: its header and n bytes of its payload.
func (f frame) upTo(n int) raw {
	w := f.wire()
	return raw(w[:len(w)-len(f.payload)+n])
}

// from returns the bytes that follow upTo(n).
func (f frame) from(n int) raw { return raw(f.wire())[len(f.upTo(n)):] }

// A connection passes input to an endpoint as a worker does: in a shared buffer, with the rest of
// the last call in front. After each call it checks the contract of Receive. It does not call
// t.Helper, which would take most of the time.
type connection struct {
	t        testing.TB
	endpoint *Endpoint
	state    State
	rest     []byte
	mem      []byte // the worker's buffer, with a guard on either side
}

const (
	guard  = 32
	poison = 0xdb
)

func newConnection(t testing.TB, cfg Config) *connection {
	return &connection{t: t, endpoint: New(cfg)}
}

// arrive makes the endpoint receive p, and returns the output, which is valid until the next call.
func (c *connection) arrive(p []byte, keep bool) []byte {
	var (
		start = Headroom
		end   = start + len(c.rest) + len(p)
		size  = end + Tailroom
		most  = len(c.rest) + len(p) + Tailroom // bytes of output
	)
	if c.state.phase == Handshake && c.endpoint.cfg.Page != nil {
		size, most = max(size, MaxPage), max(most, MaxPage)
	}
	if cap(c.mem) < guard+size+guard {
		c.mem = make([]byte, 2*(guard+size+guard))
	}
	mem := c.mem[:guard+size+guard]
	for i := range guard + Headroom {
		mem[i] = poison
	}
	for i := guard + end; i < len(mem); i++ {
		mem[i] = poison
	}
	copy(mem[guard+start:], c.rest)
	copy(mem[guard+start+len(c.rest):], p)

	// The second guard is within the capacity of b.Bytes, where an append would write.
	b := Buffer{Bytes: mem[guard : guard+size], Start: start, End: end, Seen: len(c.rest)}
	c.endpoint.Receive(&c.state, &b, keep)
	c.checkCounters()

	for i := range guard {
		if mem[i] != poison || mem[guard+size+i] != poison {
			c.t.Fatalf("byte %d before or after the buffer was overwritten", i)
		}
	}
	switch {
	case b.End != end, b.Start < start, b.Start > end, b.Seen != end-b.Start:
		c.t.Fatalf("input [%d:%d] has become the rest [%d:%d] with Seen %d", start, end, b.Start, b.End, b.Seen)
	case b.Out < 0, b.Out > b.OutEnd, b.OutEnd > size:
		c.t.Fatalf("output [%d:%d] is outside the buffer of input [%d:%d]", b.Out, b.OutEnd, start, end)
	case b.OutEnd > b.Start && c.state.phase != Done:
		c.t.Fatalf("output [%d:%d] overlaps the rest [%d:%d]", b.Out, b.OutEnd, b.Start, b.End)
	case b.OutEnd-b.Out > most:
		c.t.Fatalf("%d bytes of output for %d of input", b.OutEnd-b.Out, end-start)
	}
	c.rest = append(c.rest[:0], b.Bytes[b.Start:b.End]...)
	c.checkRest(keep)
	c.checkState()
	return b.Bytes[b.Out:b.OutEnd]
}

// maxControl is the size in bytes of the longest control frame of a client.
const maxControl = 2 + maskSize + 125

// checkRest checks that the rest is not longer than Receive promises.
func (c *connection) checkRest(keep bool) {
	limit := maxControl
	switch {
	case c.state.phase == Done:
		limit = 1
	case c.state.phase == Handshake:
		limit = c.endpoint.cfg.MaxHeader + 1
	case c.state.phase == Open && keep:
		limit = max(maxControl, c.endpoint.cfg.MaxFrame)
	}
	if len(c.rest) >= limit {
		c.t.Fatalf("got %d bytes of rest in phase %d, keep %t; want less than %d", len(c.rest), c.state.phase, keep, limit)
	}
}

// checkCounters checks that as many payload bytes have been sent as received, and a pong per ping.
func (c *connection) checkCounters() {
	n := &c.endpoint.Count
	for _, op := range []ws.OpCode{ws.OpContinuation, ws.OpText, ws.OpBinary} {
		if n.PayloadIn[op] != n.PayloadOut[op] {
			c.t.Fatalf("%d payload bytes with opcode %d were received, but %d sent", n.PayloadIn[op], op, n.PayloadOut[op])
		}
	}
	if c.state.phase == Open && n.FramesIn[ws.OpPing] != n.FramesOut[ws.OpPong] {
		c.t.Fatalf("%d pings were received, but %d pongs sent", n.FramesIn[ws.OpPing], n.FramesOut[ws.OpPong])
	}
}

// checkState checks that the fields of the state are valid and consistent.
func (c *connection) checkState() {
	s, wrong := &c.state, ""
	switch {
	case s.phase > Done:
		wrong = "an invalid phase"
	case s.phase == Done && s.code == 0:
		wrong = "no code in phase Done"
	case s.phase == Done:
	case s.phase == Handshake && *s != State{}:
		wrong = "a field that is not zero in phase Handshake"
	case s.phase == Open && s.code != 0:
		wrong = "a code in phase Open"
	case s.op > ws.OpBinary:
		wrong = "an opcode that is not of a message"
	case s.op == ws.OpContinuation && (s.size != 0 || s.remaining != 0):
		wrong = "a size without a message in progress"
	case s.phase == Open && s.remaining > 0 && len(c.rest) > 0:
		wrong = "a rest inside a frame being cut through"
	case s.phase == Open && c.endpoint.cfg.MaxMessage > 0 && s.size > c.endpoint.cfg.MaxMessage:
		wrong = "a message longer than MaxMessage"
	case s.text%stateBits != 0 || s.text >= utf8Invalid:
		wrong = "an invalid text check"
	case s.phase == Open && !s.text.whole() && s.op != ws.OpText && len(c.rest) == 0:
		wrong = "an unfinished character outside of a text message"
	}
	if wrong != "" {
		c.t.Fatalf("the state has %s: %+v, rest of %d bytes", wrong, *s, len(c.rest))
	}
}
