package echo

import "bytes"

// acceptsHTML reports whether the Accept fields of a request head name text/html with a weight
// above 0 (RFC 9110, section 12.5.1). Ranges such as */* do not count: browsers name text/html when
// they open a page, and other clients send */* with every request. A malformed field names nothing.
func acceptsHTML(head []byte) bool {
	html := false
	well := eachPreference(head, "accept", true, func(name []byte, weight int) {
		html = html || weight > 0 && equalFold(name, "text/html")
	})
	return well && html
}

// acceptsGzip reports whether the Accept-Encoding fields of a request head prefer the content
// coding gzip to none, or are indifferent (RFC 9110, section 12.5.3).
func acceptsGzip(head []byte) bool {
	const unnamed = -1
	gzip, identity, others := unnamed, unnamed, unnamed
	well := eachPreference(head, "accept-encoding", false, func(name []byte, weight int) {
		switch {
		case equalFold(name, "gzip"), equalFold(name, "x-gzip"): // section 8.4.1.3
			gzip = max(gzip, weight)
		case equalFold(name, "identity"):
			identity = max(identity, weight)
		case string(name) == "*":
			others = max(others, weight)
		}
	})
	if gzip == unnamed {
		gzip = others
	}
	return well && gzip > 0 && gzip >= identity
}

// eachPreference calls f with each member of the fields with the given lower-case name, and with
// its weight in thousandths (RFC 9110, section 12.4.2). It leaves out members with other
// parameters, such as the version of a media type. It reports whether the fields are well-formed;
// if not, the calls mean nothing.
func eachPreference(head []byte, lower string, slashes bool, f func(name []byte, weight int)) bool {
	return eachField(head, lower, func(value []byte) *Refusal {
		x := memberScanner{input: value, slashes: slashes}
		var name []byte
		weight, plain := 0, false
		flush := func() {
			if plain {
				f(name, weight)
			}
		}
		for {
			switch x.next() {
			case memberName:
				flush()
				name, weight, plain = x.name, 1000, true
			case memberParam:
				if !equalFold(x.name, "q") {
					plain = false
				} else if w, ok := parseWeight(x.value); ok {
					weight = w
				} else {
					return refuseField
				}
			case membersEnd:
				flush()
				return nil
			case membersMalformed:
				return refuseField
			}
		}
	}) == nil
}

// parseWeight parses a weight (RFC 9110, section 12.4.2) and returns it in thousandths:
//
//	qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
func parseWeight(p []byte) (weight int, ok bool) {
	if len(p) == 0 || len(p) > len("0.000") || p[0] != '0' && p[0] != '1' || len(p) > 1 && p[1] != '.' {
		return 0, false
	}
	weight = 1000 * int(p[0]-'0')
	for i, unit := 2, 100; i < len(p); i, unit = i+1, unit/10 {
		if p[i] < '0' || p[i] > '9' {
			return 0, false
		}
		weight += unit * int(p[i]-'0')
	}
	return weight, weight <= 1000
}

// hasTag reports whether the If-None-Match field of a request head names the entity tag, by weak
// comparison, or any (RFC 9110, sections 8.8.3 and 13.1.2). A field that is malformed or sent twice
// names none.
func hasTag(head []byte, tag string) bool {
	var value []byte
	seen := 0
	eachField(head, "if-none-match", func(v []byte) *Refusal {
		value = v
		seen++
		return nil
	})
	if seen != 1 {
		return false
	}
	if string(value) == "*" {
		return true
	}
	has := false
	for len(value) > 0 {
		if value[0] == ',' || value[0] == ' ' || value[0] == '\t' {
			value = value[1:]
			continue
		}
		opaque := bytes.TrimPrefix(value, []byte("W/"))
		end := endOfTag(opaque)
		if end == 0 {
			return false
		}
		has = has || string(opaque[:end]) == tag
		value = bytes.TrimLeft(opaque[end:], " \t")
		if len(value) > 0 && value[0] != ',' {
			return false
		}
	}
	return has
}

// endOfTag returns the length of the opaque tag at the front of p, quotes included, or 0 if there is
// none:
//
//	opaque-tag = DQUOTE *( %x21 / %x23-7E / %x80-FF ) DQUOTE
func endOfTag(p []byte) int {
	if len(p) == 0 || p[0] != '"' {
		return 0
	}
	for i, c := range p[1:] {
		switch {
		case c == '"':
			return i + 2
		case c <= ' ' || c == 0x7f:
			return 0
		}
	}
	return 0
}
