package echo

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/gobwas/ws"
)

// upgrade looks for a whole request at the front of the input and answers it.
func (e *Endpoint) upgrade(s *State, b *Buffer) {
	in := b.Bytes[b.Start:b.End]
	empty := emptyLines(in)
	body := !bytes.HasPrefix(in[empty:], []byte("HEAD "))
	if r := checkBeginning(in[:min(len(in), max(empty, e.cfg.MaxHeader))], empty); r != nil {
		e.refuse(s, b, r, body)
		return
	}
	// The last call has searched b.Seen bytes. At most three of them can belong to the end.
	size := endOfHead(in, max(empty, b.Seen-3))
	if size > e.cfg.MaxHeader || size == 0 && len(in) > e.cfg.MaxHeader {
		e.refuse(s, b, e.upgrader.tooLong, body)
		return
	}
	if size == 0 {
		return
	}

	head := in[empty:size]
	response, refusal := e.upgrader.answer(head)
	if refusal != nil {
		if !e.servePage(s, b, head, refusal) {
			e.refuse(s, b, refusal, body)
		}
		return
	}
	// The response ends where the request ended, in front of the client's first frames. Their
	// replies follow it.
	b.Start += size
	b.Seen = 0
	b.OutEnd = b.Start
	b.Out = b.OutEnd - len(response)
	copy(b.Bytes[b.Out:], response)
	s.setPhase(Open, 0)
}

func (e *Endpoint) refuse(s *State, b *Buffer, r *Refusal, body bool) {
	b.Out, b.OutEnd = 0, len(r.append(b.Bytes[:0], e.cfg.Now(), body))
	s.setPhase(Done, r.Status)
}

// upgrader answers complete request heads. It parses HTTP (RFC 9112), checks the rules of RFC 6455,
// section 4.2, and selects the subprotocol. ws.Upgrader writes the response. It is given a minimal
// request with the key and the selected subprotocol.
type upgrader struct {
	cfg     *Config
	tooLong *Refusal
	ws      ws.Upgrader

	request     request
	subprotocol []byte // the selected one, if any

	plain    []byte // the request for ws.Upgrader
	exchange exchange
}

// exchange is the connection that ws.Upgrader gets: it reads the request and holds the response.
type exchange struct {
	bytes.Reader
	response bytes.Buffer
}

func (x *exchange) Write(p []byte) (int, error) { return x.response.Write(p) }

func (u *upgrader) init(cfg *Config) {
	u.cfg = cfg
	u.tooLong = refuseTooLong(cfg.MaxHeader)
	u.ws = ws.Upgrader{Protocol: func([]byte) bool { return true }}
}

// answer returns the 101 response to a complete request head, valid until the next call, or the
// refusal if the request is invalid.
func (u *upgrader) answer(head []byte) ([]byte, *Refusal) {
	if r := u.examine(head); r != nil {
		return nil, r
	}
	p := append(u.plain[:0], "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
	p = append(p, u.request.key.value...)
	if u.subprotocol != nil {
		p = append(p, "\r\nSec-WebSocket-Protocol: "...)
		p = append(p, u.subprotocol...)
	}
	u.plain = append(p, "\r\n\r\n"...)
	u.exchange.Reader.Reset(u.plain)
	u.exchange.response.Reset()
	if _, err := u.ws.Upgrade(&u.exchange); err != nil {
		panic("echo: ws.Upgrader refuses a request that passed all checks: " + err.Error())
	}
	return u.exchange.response.Bytes(), nil
}

// examine checks a complete request head and returns the refusal if it is invalid. Otherwise it
// selects the subprotocol. If a request breaks several rules, the first check decides the refusal.
func (u *upgrader) examine(head []byte) *Refusal {
	r := &u.request
	*r = request{}
	u.subprotocol = nil
	if refusal := r.read(head); refusal != nil {
		return refusal
	}
	if refusal := r.checkHTTP(); refusal != nil {
		return refusal
	}
	if refusal := r.checkHandshake(); refusal != nil {
		return refusal
	}
	if r.subprotocols > 0 {
		if refusal := u.selectSubprotocol(head); refusal != nil {
			return refusal
		}
	}
	if r.extensions > 0 {
		if refusal := checkExtensions(head); refusal != nil {
			return refusal
		}
	}
	return u.checkOrigin()
}

// read parses the lines of a request head.
func (r *request) read(head []byte) *Refusal {
	return eachLine(head, func(line []byte) *Refusal {
		if r.line == nil {
			r.line = line
			return nil
		}
		name, value, ok := splitField(line)
		if !ok {
			return refuseField
		}
		r.note(name, value)
		return nil
	})
}

// checkHTTP checks the rules of HTTP/1.1, and that the request is a GET without a body.
func (r *request) checkHTTP() *Refusal {
	method, target, _ := bytes.Cut(r.line, []byte{' '})
	target, version, _ := bytes.Cut(target, []byte{' '})
	http1, http10 := bytes.HasPrefix(version, []byte("HTTP/1.")), string(version) == "HTTP/1.0"
	get := string(method) == "GET" // other methods allow other targets and bodies, and get 405
	if get {
		if refusal := checkTarget(target); refusal != nil {
			return refusal
		}
	}
	switch {
	case r.host.seen > 1:
		return refuseHostTwice
	case r.host.seen == 1 && !isAuthority(r.host.value):
		return refuseHost
	case r.host.seen == 0 && http1 && !http10: // a MUST, whatever else is wrong (RFC 9112, section 3.2)
		return refuseHost
	case get && r.body:
		return refuseBody
	case string(r.line) == http2:
		return refuseHTTP2
	case !http1:
		return refuseVersionHTTP
	case http10:
		return refuseHTTP10
	case !get:
		return refuseMethod
	}
	return nil
}

// checkHandshake checks the fields that every handshake must have (section 4.2.1).
func (r *request) checkHandshake() *Refusal {
	switch {
	case !r.asksForWebSocket():
		return refuseNotAsked
	case !r.upgrade.has || r.upgrade.malformed:
		return refuseUpgrade
	case !r.connection.has || r.connection.malformed:
		return refuseConnection
	case r.version.seen > 1: // section 11.3.5
		return refuseTwoVersions
	case !isHandshakeVersion(r.version.value):
		return refuseNoVersion
	case string(r.version.value) != "13":
		return refuseVersion
	case r.key.seen > 1: // section 11.3.1
		return refuseTwoKeys
	case !isKey(r.key.value):
		return refuseKey
	}
	return nil
}

// asksForWebSocket reports whether the request is meant as a handshake, valid or not. A request
// that upgrades to another protocol, or whose Connection names Upgrade while that field is missing
// (RFC 9110, section 7.8), is a handshake only if it has another field of a handshake.
func (r *request) asksForWebSocket() bool {
	handshake := r.key.seen > 0 || r.version.seen > 0
	return r.upgrade.has || handshake && (r.upgrade.seen || r.connection.has)
}

// isHandshakeVersion reports whether p is a number up to 255 without leading zeros (section 9.1).
func isHandshakeVersion(p []byte) bool {
	n, ok := portNumber(p)
	return ok && n <= 255 && len(p) > 0 && (len(p) == 1 || p[0] != '0')
}

// isKey reports whether p is the base64 encoding of 16 bytes (section 4.2.1, item 5).
func isKey(p []byte) bool {
	var nonce [18]byte
	if len(p) != base64.StdEncoding.EncodedLen(16) {
		return false
	}
	n, err := base64.StdEncoding.Decode(nonce[:], p)
	return err == nil && n == 16
}

// eachField calls f with the value of every field with the given lower-case name. It stops at the
// first refusal that f returns, and returns it.
func eachField(head []byte, lower string, f func(value []byte) *Refusal) *Refusal {
	return eachLine(head, func(line []byte) *Refusal {
		if name, value, ok := splitField(line); ok && equalFold(name, lower) {
			return f(value)
		}
		return nil
	})
}

// selectSubprotocol selects the first subprotocol in the client's list that the server supports.
// The members must be tokens, all of them different (section 4.1, item 10).
func (u *upgrader) selectSubprotocol(head []byte) *Refusal {
	var few [16][]byte
	offered := few[:0]
	if r := eachField(head, "sec-websocket-protocol", func(value []byte) *Refusal {
		for more := true; more; {
			var item []byte
			item, value, more = cutMember(value)
			switch {
			case len(item) == 0:
				continue
			case !isToken(item):
				return refuseProtocol
			}
			offered = append(offered, item)
		}
		return nil
	}); r != nil {
		return r
	}
	if len(offered) == 0 {
		return refuseProtocol
	}
	for _, p := range offered {
		if u.cfg.AnySubprotocol || slices.ContainsFunc(u.cfg.Subprotocols, func(known string) bool { return known == string(p) }) {
			u.subprotocol = p
			break
		}
	}
	// Sorting finds duplicates among thousands of members without comparing every pair.
	slices.SortFunc(offered, bytes.Compare)
	for i := 1; i < len(offered); i++ {
		if bytes.Equal(offered[i-1], offered[i]) {
			return refuseSame
		}
	}
	return nil
}

// CheckSubprotocol returns an error if name is not a token (RFC 9110, section 5.6.2). A client can
// offer only tokens.
func CheckSubprotocol(name string) error {
	if !isToken([]byte(name)) {
		return errors.New("is not a token: it may contain letters, digits and !#$%&'*+-.^_`|~, but no spaces or quotes")
	}
	return nil
}

// checkExtensions checks the grammar of the client's list of extensions. The server supports no
// extension, and declines each offer by leaving it out of the response (section 9.1).
func checkExtensions(head []byte) *Refusal {
	offered := false
	r := eachField(head, "sec-websocket-extensions", func(value []byte) *Refusal {
		x := memberScanner{input: value}
		for {
			switch x.next() {
			case membersMalformed:
				return refuseExtensions
			case memberName:
				offered = true
			case membersEnd:
				return nil
			}
		}
	})
	if r == nil && !offered {
		return refuseExtensions
	}
	return r
}

// checkOrigin checks the Origin field against the rules of the configuration. It admits a request
// without the field, which does not come from a browser.
func (u *upgrader) checkOrigin() *Refusal {
	field := &u.request.origin
	if u.cfg.AnyOrigin || field.seen == 0 {
		return nil
	}
	if field.seen > 1 {
		return refuseTwoOrigins
	}
	origin, ok := parseSerializedOrigin(field.value)
	if !ok {
		return refuseBadOrigin
	}
	for i := range u.cfg.Origins {
		if u.cfg.Origins[i].admits(&origin) {
			return nil
		}
	}
	return refuseOrigin
}
