package echo

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestParseWeight(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "0.": 0, "0.5": 500, "0.05": 50, "0.123": 123, "1": 1000, "1.": 1000, "1.000": 1000} {
		if got, ok := parseWeight([]byte(text)); !ok || got != want {
			t.Errorf("%q: got %d, %t, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "2", "1.1", "1.001", "0.1234", "1.0000", ".5", "00.5", "0,5", "0.x", "-1", "0x1"} {
		if got, ok := parseWeight([]byte(text)); ok {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

// preferenceList is the grammar of Accept and Accept-Encoding, written as a regular expression, for
// values without quoted strings.
var preferenceList = func() *regexp.Regexp {
	const (
		token  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
		param  = `[ \t]*;[ \t]*` + token + `[ \t]*(?:=[ \t]*` + token + `)?`
		member = `[!#$%&'*+.^_` + "`" + `|~0-9A-Za-z/-]+(?:` + param + `)*`
	)
	return regexp.MustCompile(`^[ \t,]*(?:` + member + `[ \t]*(?:,[ \t,]*|$))*$`)
}()

// preferences is a second implementation of eachPreference.
func preferences(value string) (weights map[string]float64, ok bool) {
	if !preferenceList.MatchString(value) {
		return nil, false
	}
	weights = map[string]float64{}
	for member := range strings.SplitSeq(value, ",") {
		params := strings.Split(member, ";")
		name := strings.ToLower(strings.Trim(params[0], " \t"))
		if name == "" {
			continue
		}
		weight, plain := 1.0, true
		for _, p := range params[1:] {
			key, text, _ := strings.Cut(p, "=")
			if !strings.EqualFold(strings.Trim(key, " \t"), "q") {
				plain = false
				continue
			}
			text = strings.Trim(text, " \t")
			if !regexp.MustCompile(`^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$`).MatchString(text) {
				return nil, false
			}
			weight, _ = strconv.ParseFloat(text, 64)
		}
		if before, named := weights[name]; plain && (!named || weight > before) {
			weights[name] = weight
		}
	}
	return weights, true
}

// FuzzPreferences compares acceptsHTML and acceptsGzip with a second implementation, which reads the
// values by a regular expression.
func FuzzPreferences(f *testing.F) {
	for _, value := range []string{
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html;q=0", "text/html;level=1, text/html;q=0.1",
		"gzip, deflate, br, zstd", "gzip;q=0.5, identity;q=0.6", "*;q=0.1, x-gzip;q=0", ", ,gzip ; q = 1.", "text/html;q=2", "a b", "",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\"\r\n") || len(value) > 1000 {
			return // quoted strings are left to the tests of memberScanner
		}
		head := []byte("GET / HTTP/1.1\r\nAccept: " + value + "\r\nAccept-Encoding: " + value + "\r\n\r\n")
		if _, _, ok := splitField([]byte("Accept: " + value)); !ok {
			return
		}
		weights, ok := preferences(value)
		if got, want := acceptsHTML(head), ok && weights["text/html"] > 0; got != want {
			t.Errorf("Accept: %q: got %t, want %t", value, got, want)
		}
		if strings.Contains(value, "/") {
			return // not a token, so not a content coding
		}
		gzip, named := weights["gzip"]
		if x, also := weights["x-gzip"]; also {
			gzip, named = max(gzip, x), true
		}
		if !named {
			gzip = weights["*"]
		}
		if got, want := acceptsGzip(head), ok && gzip > 0 && gzip >= weights["identity"]; got != want {
			t.Errorf("Accept-Encoding: %q: got %t, want %t", value, got, want)
		}
	})
}

// FuzzEntityTags checks that hasTag finds a tag in a list if and only if a regular expression does.
func FuzzEntityTags(f *testing.F) {
	for _, value := range []string{`"a"`, `W/"a"`, `"b", "a"`, "*", `"a" "b"`, `"a`, `,"",W/"x,y" ,"a",`, ""} {
		f.Add(value, "a")
	}
	list := regexp.MustCompile(`^[ \t,]*(?:(?:W/)?"[!#-~\x80-\xff]*"[ \t]*(?:,[ \t,]*|$))*$`)
	one := regexp.MustCompile(`"[!#-~\x80-\xff]*"`)
	f.Fuzz(func(t *testing.T, value, tag string) {
		tag = `"` + tag + `"`
		latin := func(s string) string { // package regexp wants UTF-8: one rune per byte
			var b strings.Builder
			for i := range len(s) {
				b.WriteRune(rune(s[i]))
			}
			return b.String()
		}
		if !regexp.MustCompile(`^"[!#-~\x80-\xff]*"$`).MatchString(latin(tag)) || strings.ContainsAny(value, "\r\n") {
			return
		}
		if _, _, ok := splitField([]byte("X: " + value)); !ok {
			return
		}
		trimmed := latin(strings.Trim(value, " \t"))
		want := trimmed == "*"
		if list.MatchString(trimmed) {
			for _, found := range one.FindAllString(trimmed, -1) {
				want = want || found == latin(tag)
			}
		}
		if got := hasTag([]byte("GET / HTTP/1.1\r\nIf-None-Match: "+value+"\r\n\r\n"), tag); got != want {
			t.Errorf("%q in %q: got %t, want %t", tag, value, got, want)
		}
	})
}
