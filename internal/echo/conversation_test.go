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

// The vocabulary of this package's tests.
//
// A rule is a conversation with a peer that shows it: the peer sends, and says
// what it wants to hear and why. Every rule is told several times, in each of the
// deliveries, for how the network cuts a peer's bytes must not show. A rule
// leaves nothing unheard: what the server says beyond what is wanted is a failure.

var seedFlag = flag.Uint64("seed", 0, "`seed` for the places where conversations are cut; 0: a new one each time")

// noon is when all tests happen.
var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// A rule is one of the protocol's, with its section in the name.
type rule struct {
	name  string
	with  func(*Config) // what is not as usual; nil: nothing
	fresh bool          // the conversation begins before the opening handshake
	cuts  bool          // it has frames that the server cuts through, at places that depend on the delivery
	talk  func(p *peer)
}

// A delivery is a way in which a peer's bytes arrive.
type delivery struct {
	name string
	cut  func(said []byte, r *rand.Rand) int // how much of said arrives next
	keep func(r *rand.Rand) bool             // whether the caller has memory for the rest
}

var deliveries = []delivery{
	{"whole", wholly, always},
	{"byte by byte", byteByByte, always},
	{"cut at random", atRandom, always},
	{"cut at random, again", atRandom, always},
	{"cut at random, memory short at times", atRandom, sometimes},
	{"byte by byte, memory spent", byteByByte, never},
	{"cut at random, memory spent", atRandom, never},
}

func wholly(said []byte, _ *rand.Rand) int { return len(said) }

// byteByByte hurries through what is long, every other step.
func byteByByte(said []byte, _ *rand.Rand) int {
	if len(said) > 4096 && len(said)&1 == 0 {
		return 997
	}
	return 1
}

func atRandom(said []byte, r *rand.Rand) int {
	return min(len(said), 1+r.IntN(1<<r.IntN(17)+len(said)/16))
}

func always(*rand.Rand) bool      { return true }
func never(*rand.Rand) bool       { return false }
func sometimes(r *rand.Rand) bool { return r.IntN(2) == 0 }

// converse has every rule told in every delivery.
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
					p.wantsNothing("all that the rule wants has been heard")
					if whole == nil {
						whole = p
					}
					p.heardAndCountedLike(whole)
				})
				if !ok {
					return // the others would say the same again
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
	heard    []byte // what the server has said
	unheard  []byte // the part of it that was not wanted so far
	head     bool   // the request was one for the head only
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

// A said is something that a peer may say.
type said interface{ wire() []byte }

// sends has the server receive what is said, in the peer's delivery.
func (p *peer) sends(all ...said) {
	p.t.Helper()
	var bytes []byte
	for _, s := range all {
		bytes = append(bytes, s.wire()...)
	}
	p.head = p.head || strings.HasPrefix(string(bytes), "HEAD ")
	for len(bytes) > 0 {
		n := p.delivery.cut(bytes, p.random)
		p.hears(p.conn.arrive(bytes[:n], p.delivery.keep(p.random)))
		bytes = bytes[n:]
	}
}

func (p *peer) hears(said []byte) {
	p.heard = append(p.heard, said...)
	p.unheard = append(p.unheard, said...)
}

// heardAndCountedLike wants the bytes and the counters to be those of another
// delivery, unless frames are cut through.
func (p *peer) heardAndCountedLike(other *peer) {
	p.t.Helper()
	if p.cuts || other.cuts {
		return
	}
	if !bytes.Equal(p.heard, other.heard) {
		p.t.Errorf("heard %s,\nbut %s when delivered %s", gist(p.heard), gist(other.heard), other.delivery.name)
	}
	if p.conn.endpoint.Count != other.conn.endpoint.Count {
		p.t.Errorf("counted %+v,\nbut %+v when delivered %s", p.conn.endpoint.Count, other.conn.endpoint.Count, other.delivery.name)
	}
}

// isBidGoodbye has the server end the connection from its side.
func (p *peer) isBidGoodbye(code ws.StatusCode, reason string) {
	p.t.Helper()
	said := p.conn.endpoint.Goodbye(nil, &p.conn.state, code, reason)
	if len(said) >= Tailroom {
		p.t.Fatalf("Goodbye appended %d bytes, and must stay below Tailroom", len(said))
	}
	p.conn.checkState()
	p.hears(said)
}

// isRefused has the server refuse the connection for a reason of its own.
func (p *peer) isRefused(r *Refusal) {
	p.t.Helper()
	p.hears(p.conn.endpoint.Refuse(nil, &p.conn.state, r))
	p.conn.checkState()
}

// wantsFrame wants to hear a frame next. Where frames are cut through it may come in pieces:
// the first has its opcode, the last its FIN bit, and those between are
// continuations.
func (p *peer) wantsFrame(op ws.OpCode, fin bool, payload, why string) {
	p.t.Helper()
	for got := ""; ; op = ws.OpContinuation {
		h, piece := p.hearFrame(why)
		got += piece
		whole := len(got) >= len(payload)
		if h.OpCode != op || h.Fin != (fin && whole) || got != payload[:min(len(got), len(payload))] {
			p.t.Fatalf("heard %s,\nwanted %s:\n%s", describe(h, got), describe(ws.Header{OpCode: op, Fin: fin}, payload), why)
		}
		if whole {
			return
		}
		if !p.cuts || op.IsControl() || piece == "" {
			p.t.Fatalf("heard %s, not all of %s:\n%s", describe(h, got), describe(ws.Header{OpCode: op, Fin: fin}, payload), why)
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

// wantsClose wants a close frame next, whatever its reason. In a delivery where
// frames are cut through, pieces of a message that will never be whole may
// come before.
func (p *peer) wantsClose(code ws.StatusCode, why string) {
	p.t.Helper()
	h, body := p.hearFrame(why)
	for p.cuts && !h.Fin {
		h, body = p.hearFrame(why)
	}
	if h.OpCode != ws.OpClose || !h.Fin || len(body) < 2 || binary.BigEndian.Uint16([]byte(body)) != uint16(code) {
		p.t.Fatalf("heard %s, wanted a close frame with code %d:\n%s", describe(h, body), code, why)
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

// wantsNothing wants silence. In a delivery where frames are cut through,
// pieces of one that is not whole yet are silence too.
func (p *peer) wantsNothing(why string) {
	p.t.Helper()
	if len(p.unheard) == 0 {
		return
	}
	all := p.unheard
	for p.cuts && len(p.unheard) > 0 {
		if h, payload := p.hearFrame(why); h.Fin || h.OpCode.IsControl() || payload == "" {
			break
		}
	}
	if len(p.unheard) > 0 || !p.cuts {
		p.t.Fatalf("heard %s, wanted nothing:\n%s", gist(all), why)
	}
	p.unheard = all
}

// wantsEnd wants the connection to be at its end, to have come there with
// code, and to stay there.
func (p *peer) wantsEnd(code int, why string) {
	p.t.Helper()
	s := &p.conn.state
	if s.Phase() != Done || s.Code() != code {
		p.t.Fatalf("phase %d, code %d; wanted the end with code %d:\n%s", s.Phase(), s.Code(), code, why)
	}
	p.sends(ping("are you there?"), text("hello?"), closing(1000, ""))
	p.isBidGoodbye(1001, "bye")
	p.isRefused(RefuseFull)
	if len(p.unheard) > 0 {
		p.t.Fatalf("heard %s after the end:\n%s", gist(p.unheard), why)
	}
	if s.Code() != code {
		p.t.Fatalf("the code has become %d after the end", s.Code())
	}
}

// wantsOpen wants a connection on which a ping is answered and a message echoed.
func (p *peer) wantsOpen(why string) {
	p.t.Helper()
	p.sends(ping("open?"), text("open!"))
	p.wantsPong("open?", why)
	p.wantsText("open!", why)
	if phase := p.conn.state.Phase(); phase != Open {
		p.t.Fatalf("phase %d, wanted Open:\n%s", phase, why)
	}
}

// wantsUpgrade wants the connection to be upgraded, by a response that has the
// given header fields besides those that every one has.
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
	status, header, body := p.hearResponse(why)
	if status != "101 Switching Protocols" || fmt.Sprint(header) != fmt.Sprint(want) {
		p.t.Fatalf("heard %s %v %q,\nwanted 101 %v:\n%s", status, header, body, want, why)
	}
	p.unheard = body
}

// wantsRefusal wants the request to be refused with status, by a response that has the
// given header fields besides those that every one has, and the connection to end.
func (p *peer) wantsRefusal(code int, why string, fields ...string) {
	p.t.Helper()
	status, header, body := p.hearResponse(why)
	if status != fmt.Sprint(code, " ", http.StatusText(code)) {
		p.t.Fatalf("heard %s %q, wanted %d:\n%s", status, body, code, why)
	}
	for _, f := range append([]string{
		"Connection: close",
		"Content-Type: text/plain; charset=utf-8",
		"Date: Sun, 22 Nov 2026 12:00:00 GMT",
	}, fields...) {
		name, value, _ := strings.Cut(f, ": ")
		if all := header.Values(name); !slices.Contains(all, value) {
			p.t.Errorf("%s has %s: %q, wanted %q:\n%s", status, name, all, value, why)
		}
	}
	length := header.Get("Content-Length")
	switch {
	case p.head && len(body) > 0:
		p.t.Errorf("%s has the body %q in answer to HEAD (RFC 9110, 9.3.2)", status, body)
	case p.head:
	case len(body) < 2 || bytes.IndexByte(body, '\n') != len(body)-1:
		p.t.Errorf("%s has the body %q, wanted one line", status, body)
	case length != fmt.Sprint(len(body)):
		p.t.Errorf("%s has Content-Length %s and a body of %d bytes", status, length, len(body))
	}
	p.unheard = nil
	p.wantsEnd(code, why)
}

// wantsReason wants a refusal with this reason.
func (p *peer) wantsReason(code int, reason, why string, fields ...string) {
	p.t.Helper()
	if !bytes.HasSuffix(p.unheard, []byte("\r\n\r\n"+reason+"\n")) {
		p.t.Errorf("heard %q, wanted the reason %q:\n%s", p.unheard, reason, why)
	}
	p.wantsRefusal(code, why, fields...)
}

// hearFrame takes a frame off the front of what was said. It reads with
// gobwas's own reader, and is strict about what a server may send.
func (p *peer) hearFrame(why string) (ws.Header, string) {
	p.t.Helper()
	if len(p.unheard) == 0 {
		p.t.Fatalf("heard nothing, wanted a frame:\n%s", why)
	}
	h, payload, rest, err := takeFrame(p.unheard)
	if err != nil {
		p.t.Fatalf("heard %q, which is no frame of a server: %v; wanted one:\n%s", gist(p.unheard), err, why)
	}
	p.unheard = rest
	return h, string(payload)
}

// hearResponse takes a response's head off the front of what was said. It
// reads it line by line, for net/http would hide Connection.
func (p *peer) hearResponse(why string) (status string, header textproto.MIMEHeader, body []byte) {
	p.t.Helper()
	head, body, found := bytes.Cut(p.unheard, []byte("\r\n\r\n"))
	if !found {
		p.t.Fatalf("heard %q, wanted a response:\n%s", p.unheard, why)
	}
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(string(head) + "\r\n\r\n")))
	line, err := r.ReadLine()
	if err == nil {
		header, err = r.ReadMIMEHeader()
	}
	status, found = strings.CutPrefix(line, "HTTP/1.1 ")
	if err != nil || !found {
		p.t.Fatalf("heard %q, which is no response: %v", p.unheard, err)
	}
	return status, header, body
}

// takeFrame takes a server's frame off the front of p.
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
		err = fmt.Errorf("no such control frame (5.5)")
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

// gist is what a server has said, in words.
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

// raw is said as it stands.
type raw string

func (r raw) wire() []byte { return []byte(r) }

// A frame is a client's, with all the liberties that one may take.
type frame struct {
	op       ws.OpCode
	fin      bool
	rsv      byte
	unmasked bool
	form     byte // length126 or length127 instead of the shortest
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

// header is the frame's, for a payload of n bytes.
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

// upTo is the beginning of a frame: its header and n bytes of its payload.
func (f frame) upTo(n int) raw {
	w := f.wire()
	return raw(w[:len(w)-len(f.payload)+n])
}

// from is what follows upTo(n).
func (f frame) from(n int) raw { return raw(f.wire())[len(f.upTo(n)):] }

// A connection carries bytes to an endpoint as a worker does: in a buffer
// that is not its own, with the rest of the last call in front. It checks
// what an endpoint promises about each call. (It does without t.Helper, which
// would take most of the time.)
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

// arrive has the endpoint receive p, and returns what it says. The result is
// valid until the next call.
func (c *connection) arrive(p []byte, keep bool) []byte {
	var (
		start = Headroom
		end   = start + len(c.rest) + len(p)
		size  = end + Tailroom
	)
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

	// The second guard is within the capacity, where an append would go.
	b := Buffer{Bytes: mem[guard : guard+size], Start: start, End: end, Seen: len(c.rest)}
	c.endpoint.Receive(&c.state, &b, keep)
	c.checkCounters()

	for i := range guard {
		if mem[i] != poison || mem[guard+size+i] != poison {
			c.t.Fatalf("the byte %d before or after the buffer has been touched", i)
		}
	}
	switch {
	case b.End != end, b.Start < start, b.Start > end, b.Seen != end-b.Start:
		c.t.Fatalf("input [%d:%d] has become [%d:%d] with %d seen", start, end, b.Start, b.End, b.Seen)
	case b.Out < 0, b.Out > b.OutEnd, b.OutEnd > end+Tailroom:
		c.t.Fatalf("output [%d:%d] is outside the buffer of input [%d:%d]", b.Out, b.OutEnd, start, end)
	case b.OutEnd > b.Start && c.state.phase != Done:
		c.t.Fatalf("output [%d:%d] overlaps the rest [%d:%d]", b.Out, b.OutEnd, b.Start, b.End)
	case b.OutEnd-b.Out > end-start+Tailroom:
		c.t.Fatalf("%d bytes of output for %d of input", b.OutEnd-b.Out, end-start)
	}
	c.rest = append(c.rest[:0], b.Bytes[b.Start:b.End]...)
	c.checkRest(keep)
	c.checkState()
	return b.Bytes[b.Out:b.OutEnd]
}

// maxControl is the length of the longest control frame of a client.
const maxControl = 2 + maskSize + 125

// checkRest checks that no more is left for the caller to keep than may be.
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
		c.t.Fatalf("%d bytes of rest in phase %d, keep %t", len(c.rest), c.state.phase, keep)
	}
}

// checkCounters checks that as much has been echoed as was taken.
func (c *connection) checkCounters() {
	n := &c.endpoint.Count
	for _, op := range []ws.OpCode{ws.OpContinuation, ws.OpText, ws.OpBinary} {
		if n.PayloadIn[op] != n.PayloadOut[op] {
			c.t.Fatalf("%d payload bytes with opcode %d were taken, and %d sent", n.PayloadIn[op], op, n.PayloadOut[op])
		}
	}
	if c.state.phase == Open && n.FramesIn[ws.OpPing] != n.FramesOut[ws.OpPong] {
		c.t.Fatalf("%d pings were taken, and %d pongs sent", n.FramesIn[ws.OpPing], n.FramesOut[ws.OpPong])
	}
}

// checkState checks that the state remembers nothing that it may not, or that
// contradicts itself.
func (c *connection) checkState() {
	s, wrong := &c.state, ""
	switch {
	case s.phase > Done:
		wrong = "no such phase"
	case s.phase == Done && s.code == 0:
		wrong = "Done without a code"
	case s.phase == Done:
	case s.phase == Handshake && *s != State{}:
		wrong = "something to remember before the handshake"
	case s.phase == Open && s.code != 0:
		wrong = "a code while Open"
	case s.op > ws.OpBinary:
		wrong = "a message of a kind that there is not"
	case s.op == ws.OpContinuation && (s.size != 0 || s.remaining != 0):
		wrong = "the size of a message without the message"
	case s.phase == Open && s.remaining > 0 && len(c.rest) > 0:
		wrong = "a rest in the middle of a frame being cut through"
	case s.phase == Open && c.endpoint.cfg.MaxMessage > 0 && s.size > c.endpoint.cfg.MaxMessage:
		wrong = "a message longer than MaxMessage"
	case s.text%stateBits != 0 || s.text >= utf8Never:
		wrong = "text that is impossible"
	case s.phase == Open && !s.text.whole() && s.op != ws.OpText && len(c.rest) == 0:
		wrong = "a begun character outside of text"
	}
	if wrong != "" {
		c.t.Fatalf("the state has %s: %+v, rest of %d bytes", wrong, *s, len(c.rest))
	}
}
