package echo

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/gobwas/ws"
)

// upgrade looks for a whole request at the front of the input and answers it.
func (e *Endpoint) upgrade(s *State, b *Buffer) {
	in := b.Bytes[b.Start:b.End]
	empty := emptyLines(in)
	if !beginsRequest(in[empty:min(len(in), max(empty, e.cfg.MaxHeader))]) {
		e.refuse(s, b, refuseGarbage, true)
		return
	}
	body := !bytes.HasPrefix(in[empty:], []byte("HEAD "))
	// The end is at most three bytes long, and was not there when we looked last.
	size := endOfHead(in, max(empty, b.Seen-3))
	if size > e.cfg.MaxHeader || size == 0 && len(in) > e.cfg.MaxHeader {
		e.refuse(s, b, refuseTooLong, body)
		return
	}
	if size == 0 {
		return
	}

	head := in[empty:size]
	response, refusal := e.upgrader.answer(head)
	if refusal != nil {
		e.refuse(s, b, refusal, body)
		return
	}
	// The response ends where the request ended: what follows are frames, and
	// their replies follow it.
	b.Start += size
	b.Seen = 0
	b.OutEnd = b.Start
	b.Out = b.OutEnd - len(response)
	copy(b.Bytes[b.Out:], response)
	s.phase = Open
}

func (e *Endpoint) refuse(s *State, b *Buffer, r *Refusal, body bool) {
	b.Out, b.OutEnd = 0, len(r.append(b.Bytes[:0], e.cfg.Now(), body))
	s.finish(r.Status)
}

// upgrader answers whole request heads. Reading HTTP is its own work: what
// RFC 9112 says of lines, names and lists, it sees to. It then tells ws.Upgrader the same
// request again in plain words: each field once, in the order in which a fault is to
// be reported, each list shortened to the member that matters. ws.Upgrader decides
// by RFC 6455, section 4.2, and writes the response.
type upgrader struct {
	cfg *Config
	ws  ws.Upgrader

	request  request
	plain    []byte       // the request in plain words
	reader   bytes.Reader // over plain
	response bytes.Buffer
	conn     struct { // what ws.Upgrader takes for a connection: reader and response
		io.Reader
		io.Writer
	}
}

func (u *upgrader) init(cfg *Config) {
	u.cfg = cfg
	u.conn.Reader, u.conn.Writer = &u.reader, &u.response
	u.ws = ws.Upgrader{
		Protocol:        u.selectsSubprotocol,
		OnBeforeUpgrade: u.admit,
	}
	u.ws.Negotiate = decline
}

// decline answers every extension offer with silence. It is generic so that
// the offer's type, from a package of ws's own, need not be named.
func decline[Offer any](Offer) (none Offer, err error) { return none, nil }

// answer is the response to a whole request head, valid until the next call,
// or the refusal that the head earns.
func (u *upgrader) answer(head []byte) ([]byte, *Refusal) {
	if r := u.read(head); r != nil {
		return nil, r
	}
	u.reader.Reset(u.plain)
	u.response.Reset()
	_, err := u.ws.Upgrade(&u.conn)
	if err != nil {
		return nil, u.refusal(err)
	}
	return u.response.Bytes(), nil
}

// read reads a request head into u.request and u.plain.
func (u *upgrader) read(head []byte) *Refusal {
	r := &u.request
	*r = request{}
	u.plain = u.plain[:0]
	if refusal := eachLine(head, func(line []byte) *Refusal {
		if r.line == nil {
			r.line = line
			return nil
		}
		name, value, ok := splitField(line)
		if !ok {
			return refuseField
		}
		if is(name, "sec-websocket-protocol") && !isTokenList(value) {
			return refuseNegotiation // ws.Upgrader looks no further than the first that will do
		}
		r.note(name, value)
		return nil
	}); refusal != nil {
		return refusal
	}

	method, target, _ := bytes.Cut(r.line, []byte{' '})
	target, version, _ := bytes.Cut(target, []byte{' '})
	get := string(method) == "GET" // another method has targets and bodies of its own, and earns 405
	switch {
	case !isVersion(version):
		return refuseRequestLine
	case get && !isTarget(target):
		return refuseTarget
	case r.host.seen > 1 || r.host.seen == 1 && !isAuthority(r.host.value):
		return refuseHost
	case r.host.seen == 0 && string(version) == "HTTP/1.1": // a MUST, whatever else is wrong (RFC 9112, section 3.2)
		return refuseHost
	case get && r.body:
		return refuseBody
	}

	u.say(r.line)
	u.sayField("Host", r.host)
	if r.upgrade.seen {
		u.say([]byte("Upgrade: "), pick(r.upgrade.has, "websocket", "-"))
	}
	if r.connection.seen {
		u.say([]byte("Connection: "), pick(r.connection.has, "Upgrade", "-"))
	}
	u.sayField("Sec-WebSocket-Version", r.version)
	u.sayField("Sec-WebSocket-Key", r.key)
	_ = eachLine(head, func(line []byte) *Refusal {
		if name, _, _ := splitField(line); is(name, "sec-websocket-protocol") || is(name, "sec-websocket-extensions") {
			u.say(line)
		}
		return nil
	})
	u.say()
	return nil
}

func pick(cond bool, yes, no string) []byte {
	if cond {
		return []byte(yes)
	}
	return []byte(no)
}

// say adds a line to the request in plain words.
func (u *upgrader) say(parts ...[]byte) {
	for _, p := range parts {
		u.plain = append(u.plain, p...)
	}
	u.plain = append(u.plain, "\r\n"...)
}

func (u *upgrader) sayField(name string, f field) {
	if f.seen > 0 {
		u.say([]byte(name), []byte(": "), f.value)
	}
}

// isVersion says whether p is "HTTP/" DIGIT "." DIGIT (RFC 9112, section 2.3).
func isVersion(p []byte) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(p) == len("HTTP/1.1") && bytes.HasPrefix(p, []byte("HTTP/")) && digit(p[5]) && p[6] == '.' && digit(p[7])
}

// admit is asked when ws.Upgrader has nothing more to object to. It sees what
// that does not look at.
func (u *upgrader) admit() (ws.HandshakeHeader, error) {
	r := &u.request
	// Section 11.3.1 and 11.3.5: neither may stand there twice.
	if r.key.seen > 1 || !isKey(r.key.value) {
		return nil, refuseKey
	}
	if r.version.seen > 1 {
		return nil, refuseNoVersion
	}
	if r.origin.seen > 0 && !u.cfg.AnyOrigin && (r.origin.seen > 1 || !admitted(u.cfg.Origins, r.origin.value)) {
		return nil, refuseOrigin
	}
	return nil, nil
}

// isKey says whether p is 16 bytes in base64 (section 4.2.1, item 5).
func isKey(p []byte) bool {
	var nonce [18]byte
	if len(p) != base64.StdEncoding.EncodedLen(16) {
		return false
	}
	n, err := base64.StdEncoding.Decode(nonce[:], p)
	return err == nil && n == 16
}

// admitted says whether the host of origin (RFC 6454, section 7), with or
// without its port, is one of hosts.
func admitted(hosts []string, origin []byte) bool {
	_, authority, found := strings.Cut(string(origin), "://")
	if !found {
		authority = string(origin) // "null", which a list may name
	}
	if !isAuthority([]byte(authority)) {
		return false
	}
	host := authority
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host = authority[:i]
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		return strings.EqualFold(h, authority) || strings.EqualFold(h, host)
	})
}

func (u *upgrader) selectsSubprotocol(offered []byte) bool {
	return u.cfg.AnySubprotocol || slices.ContainsFunc(u.cfg.Subprotocols, func(p string) bool {
		return p == string(offered)
	})
}

// refusal is what we say where ws.Upgrader, or one of its hooks, said err.
func (u *upgrader) refusal(err error) *Refusal {
	r := &u.request
	var own *Refusal
	switch {
	case errors.As(err, &own):
		return own
	case err == ws.ErrHandshakeBadProtocol && bytes.HasSuffix(r.line, []byte("HTTP/1.0")):
		return refuseHTTP10
	case err == ws.ErrHandshakeBadProtocol:
		return refuseVersionHTTP
	case err == ws.ErrHandshakeBadMethod:
		return refuseMethod
	case err == ws.ErrHandshakeBadHost:
		return refuseHost
	case !r.upgrade.seen && !r.connection.has:
		return refuseNotAsked
	case err == ws.ErrHandshakeBadUpgrade:
		return refuseUpgrade
	case err == ws.ErrHandshakeBadConnection:
		return refuseConnection
	case err == ws.ErrHandshakeUpgradeRequired:
		return u.refuseVersion()
	case err == ws.ErrHandshakeBadSecVersion:
		return refuseNoVersion
	case err == ws.ErrHandshakeBadSecKey:
		return refuseKey
	}
	return refuseNegotiation
}

// refuseVersion tells another version from what is none (section 4.4, ABNF in section 9.1).
func (u *upgrader) refuseVersion() *Refusal {
	v := u.request.version.value
	if len(v) == 0 || len(v) > 3 || len(bytes.Trim(v, "0123456789")) > 0 {
		return refuseNoVersion
	}
	return refuseVersion
}
