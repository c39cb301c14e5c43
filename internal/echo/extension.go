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
// The zero value with input set is ready to use. Scanning does not allocate.
type extensionScanner struct {
	input   []byte // not scanned yet
	inOffer bool   // a parameter may follow

	name     []byte // the name of the extension or parameter
	hasValue bool   // the parameter has a value
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

// next scans the next item and returns its kind. It must not be called again after it has returned
// extensionEnd or extensionMalformed.
func (x *extensionScanner) next() extensionItem {
	x.skipSpace()
	if x.inOffer && len(x.input) > 0 {
		switch x.input[0] {
		case ';':
			return x.param()
		case ',': // skipped below
		default:
			return extensionMalformed
		}
	}
	for len(x.input) > 0 && x.input[0] == ',' {
		x.input = x.input[1:]
		x.skipSpace()
	}
	if len(x.input) == 0 {
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
	x.input = x.input[1:]
	x.skipSpace()
	x.name, x.value, x.hasValue = x.token(), nil, false
	if len(x.name) == 0 {
		return extensionMalformed
	}
	x.skipSpace()
	if len(x.input) == 0 || x.input[0] != '=' {
		return extensionParam
	}
	x.input = x.input[1:]
	x.skipSpace()
	if len(x.input) > 0 && x.input[0] == '"' {
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

// appendValue appends the parameter's value to dst without its escapes. Every backslash is an
// escape, since the unescaped value is a token and contains none.
func (x *extensionScanner) appendValue(dst []byte) []byte {
	for _, c := range x.value {
		if c != '\\' {
			dst = append(dst, c)
		}
	}
	return dst
}

func (x *extensionScanner) skipSpace() {
	for len(x.input) > 0 && (x.input[0] == ' ' || x.input[0] == '\t') {
		x.input = x.input[1:]
	}
}

// token scans and returns a token, which is empty if there is none.
func (x *extensionScanner) token() []byte {
	n := 0
	for n < len(x.input) && isTokenByte(x.input[n]) {
		n++
	}
	token := x.input[:n]
	x.input = x.input[n:]
	return token
}

// quoted scans a quoted-string and returns the text between its quotes. The result is empty if the
// string is empty, has no closing quote, or is not a token once it is unescaped.
func (x *extensionScanner) quoted() []byte {
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
