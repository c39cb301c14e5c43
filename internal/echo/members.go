package echo

// A memberScanner reads one value of a header field that is a list whose members have parameters,
// by the grammar of Sec-WebSocket-Extensions (RFC 6455, section 9.1):
//
//	extension-list  = 1#extension
//	extension       = extension-token *( ";" extension-param )
//	extension-param = token [ "=" (token | quoted-string) ]
//
// A quoted-string must be a token once it is unescaped. Spaces and tabs may surround every token
// and separator (RFC 2616, section 2.1, implied LWS), and members of the list may be empty (RFC
// 9110, section 5.6.1). A list that is sent in several fields is scanned field by field, since no
// well-formed member extends over two.
//
// Accept and Accept-Encoding have the same form (RFC 9110, sections 12.5.1 and 12.5.3), apart from
// the slash in a media range.
//
// The zero value with input set is ready to use. Scanning does not allocate.
type memberScanner struct {
	input    []byte // not scanned yet
	slashes  bool   // the name of a member may contain slashes
	inMember bool   // a parameter may follow

	name     []byte // the name of the member or parameter
	hasValue bool   // the parameter has a value
	value    []byte // the value of the parameter, still escaped: see appendValue
}

// memberItem is a kind of item that a memberScanner returns.
type memberItem uint8

const (
	membersEnd       memberItem = iota // the end of a well-formed value
	memberName                         // a member, whose parameters follow
	memberParam                        // a parameter of the last member
	membersMalformed                   // the value breaks the grammar
)

// next scans the next item and returns its kind. It must not be called again after it has returned
// membersEnd or membersMalformed.
func (x *memberScanner) next() memberItem {
	x.skipSpace()
	if x.inMember && len(x.input) > 0 {
		switch x.input[0] {
		case ';':
			return x.param()
		case ',': // skipped below
		default:
			return membersMalformed
		}
	}
	for len(x.input) > 0 && x.input[0] == ',' {
		x.input = x.input[1:]
		x.skipSpace()
	}
	if len(x.input) == 0 {
		return membersEnd
	}
	x.name = x.token(x.slashes)
	if len(x.name) == 0 {
		return membersMalformed
	}
	x.inMember = true
	return memberName
}

// param scans a parameter and the semicolon before it.
func (x *memberScanner) param() memberItem {
	x.input = x.input[1:]
	x.skipSpace()
	x.name, x.value, x.hasValue = x.token(false), nil, false
	if len(x.name) == 0 {
		return membersMalformed
	}
	x.skipSpace()
	if len(x.input) == 0 || x.input[0] != '=' {
		return memberParam
	}
	x.input = x.input[1:]
	x.skipSpace()
	if len(x.input) > 0 && x.input[0] == '"' {
		x.value = x.quoted()
	} else {
		x.value = x.token(false)
	}
	if len(x.value) == 0 {
		return membersMalformed
	}
	x.hasValue = true
	return memberParam
}

// appendValue appends the parameter's value to dst without its escapes. Every backslash is an
// escape, since the unescaped value is a token and contains none.
func (x *memberScanner) appendValue(dst []byte) []byte {
	for _, c := range x.value {
		if c != '\\' {
			dst = append(dst, c)
		}
	}
	return dst
}

func (x *memberScanner) skipSpace() {
	for len(x.input) > 0 && (x.input[0] == ' ' || x.input[0] == '\t') {
		x.input = x.input[1:]
	}
}

// token scans and returns a token, which is empty if there is none. It may contain slashes if
// slashes is true.
func (x *memberScanner) token(slashes bool) []byte {
	n := 0
	for n < len(x.input) && (isTokenByte(x.input[n]) || slashes && x.input[n] == '/') {
		n++
	}
	token := x.input[:n]
	x.input = x.input[n:]
	return token
}

// quoted scans a quoted-string and returns the text between its quotes. The result is empty if the
// string is empty, has no closing quote, or is not a token once it is unescaped.
func (x *memberScanner) quoted() []byte {
	for n := 1; n < len(x.input); n++ {
		switch c := x.input[n]; {
		case c == '"':
			value := x.input[1:n]
			x.input = x.input[n+1:]
			return value
		case c == '\\' && n+1 < len(x.input):
			n++
		}
		if !isTokenByte(x.input[n]) {
			return nil
		}
	}
	return nil
}
