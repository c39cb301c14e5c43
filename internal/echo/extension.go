package echo

// An extensionScanner reads one value of Sec-WebSocket-Extensions by the grammar of RFC 6455,
// section 9.1:
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
// The zero value with rest set is ready to use. Scanning allocates nothing.
type extensionScanner struct {
	rest    []byte // not scanned yet
	inOffer bool   // a parameter may follow

	name     []byte // the name of the extension or parameter
	hasValue bool   // whether the parameter has a value
	value    []byte // the value of the parameter, still escaped: see appendValue
}

// extensionItem is a kind of item that an extensionScanner returns.
type extensionItem uint8

const (
	extensionEnd       extensionItem = iota // the end of a well-formed value
	extensionOffer                          // an extension, whose parameters follow
	extensionParam                          // a parameter of the last offer
	extensionMalformed                      // the value breaks the grammar
)

// next scans the next item. There is none after extensionEnd and extensionMalformed.
func (x *extensionScanner) next() extensionItem {
	x.skipSpace()
	if x.inOffer && len(x.rest) > 0 {
		switch x.rest[0] {
		case ';':
			return x.param()
		case ',': // skipped below
		default:
			return extensionMalformed
		}
	}
	for len(x.rest) > 0 && x.rest[0] == ',' {
		x.rest = x.rest[1:]
		x.skipSpace()
	}
	if len(x.rest) == 0 {
		return extensionEnd
	}
	x.name = x.token()
	if len(x.name) == 0 {
		return extensionMalformed
	}
	x.inOffer = true
	return extensionOffer
}

// param scans a parameter and the semicolon before it.
func (x *extensionScanner) param() extensionItem {
	x.rest = x.rest[1:]
	x.skipSpace()
	x.name, x.value, x.hasValue = x.token(), nil, false
	if len(x.name) == 0 {
		return extensionMalformed
	}
	x.skipSpace()
	if len(x.rest) == 0 || x.rest[0] != '=' {
		return extensionParam
	}
	x.rest = x.rest[1:]
	x.skipSpace()
	if len(x.rest) > 0 && x.rest[0] == '"' {
		x.value = x.quoted()
	} else {
		x.value = x.token()
	}
	if len(x.value) == 0 {
		return extensionMalformed
	}
	x.hasValue = true
	return extensionParam
}

// appendValue appends the parameter's value to dst without its escapes. A backslash is always one,
// since the unescaped value is a token.
func (x *extensionScanner) appendValue(dst []byte) []byte {
	for _, c := range x.value {
		if c != '\\' {
			dst = append(dst, c)
		}
	}
	return dst
}

func (x *extensionScanner) skipSpace() {
	for len(x.rest) > 0 && (x.rest[0] == ' ' || x.rest[0] == '\t') {
		x.rest = x.rest[1:]
	}
}

// token scans a token. It is empty if there is none.
func (x *extensionScanner) token() []byte {
	n := 0
	for n < len(x.rest) && isTokenByte(x.rest[n]) {
		n++
	}
	token := x.rest[:n]
	x.rest = x.rest[n:]
	return token
}

// quoted scans a quoted-string and returns what its quotes enclose. That is empty if the string
// is, or if it does not end, or if it is not a token once it is unescaped.
func (x *extensionScanner) quoted() []byte {
	for n := 1; n < len(x.rest); n++ {
		switch c := x.rest[n]; {
		case c == '"':
			value := x.rest[1:n]
			x.rest = x.rest[n+1:]
			return value
		case c == '\\' && n+1 < len(x.rest):
			n++
		}
		if !isTokenByte(x.rest[n]) {
			return nil
		}
	}
	return nil
}
