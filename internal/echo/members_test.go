package echo

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// scanned returns what a scanner finds in a value, one string per item, and reports whether the
// value is well-formed.
func scanned(value string) (items []string, ok bool) {
	x := memberScanner{input: []byte(value)}
	for {
		switch x.next() {
		case memberName:
			items = append(items, string(x.name))
		case memberParam:
			item := "; " + string(x.name)
			if x.hasValue {
				item += "=" + string(x.appendValue(nil))
			}
			items = append(items, item)
		case membersEnd:
			return items, true
		case membersMalformed:
			return nil, false
		}
	}
}

var extensionLists = []struct {
	value string
	want  []string // nil: the value is malformed
}{
	{"", []string{}},
	{" ,\t,", []string{}},
	{"x", []string{"x"}},
	{"permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
		[]string{"permessage-deflate", "; client_max_window_bits", "; server_max_window_bits=10", "permessage-deflate"}},
	{"x\t;\ty", []string{"x", "; y"}},
	{" x ; y = 1 ; z\t=\t\"2\" ,, a ", []string{"x", "; y=1", "; z=2", "a"}},
	{`x; y="\1\2"`, []string{"x", "; y=12"}},
	{`x; y="a\bc"; z`, []string{"x", "; y=abc", "; z"}},
	{"!#$%&'*+-.^_`|~09azAZ;a", []string{"!#$%&'*+-.^_`|~09azAZ", "; a"}},
	{"x y", nil},
	{"x;", nil},
	{"x; ,y", nil},
	{"x;; y", nil},
	{"; y", nil},
	{"=", nil},
	{"x=1", nil},
	{"x; y=", nil},
	{"x; y=,z", nil},
	{"x; =1", nil},
	{"x; y==1", nil},
	{"x; y=1 2", nil},
	{"x; y=1=2", nil},
	{`x; y=""`, nil},
	{`x; y="c d"`, nil},
	{"x; y=\"\tc\"", nil},
	{`x; y="1"2`, nil},
	{`x; y=1"2"`, nil},
	{`x; y="1""2"`, nil},
	{`x; y="1`, nil},
	{`x; y="`, nil},
	{`x; y="\`, nil},
	{`x; y="\"`, nil},
	{`x; y="\""`, nil},
	{`x; y="\\"`, nil},
	{`x; y="a\ b"`, nil},
	{`x; y="a,b"`, nil},
	{`"x"`, nil},
	{`x; "y"`, nil},
	{`x; y=\1`, nil},
	{"x; y=\"\xc3\xa4\"", nil},
	{"\xc3\xa4", nil},
	{"x/1", nil},
	{"x\x00", nil},
}

func TestExtensionLists(t *testing.T) {
	for _, c := range extensionLists {
		items, ok := scanned(c.value)
		if ok != (c.want != nil) || ok && !slices.Equal(items, c.want) {
			t.Errorf("%q: got %q, well-formed %t; want %q", c.value, items, ok, c.want)
		}
	}
}

// The grammar of RFC 6455, section 9.1, as regular expressions. They admit only those
// quoted-strings that are tokens once they are unescaped.
var (
	abnfToken     = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
	abnfParam     = fmt.Sprintf(`;[ \t]*(%s)[ \t]*(?:=[ \t]*(%[1]s|"(?:\\?[!#$%%&'*+\-.^_`+"`"+`|~0-9A-Za-z])+")[ \t]*)?`, abnfToken)
	abnfExtension = fmt.Sprintf(`[ \t]*(%s)[ \t]*((?:%s)*)`, abnfToken, abnfParam)
	abnfList      = regexp.MustCompile(fmt.Sprintf(`^(?:%[1]s|[ \t]*)(?:,(?:%[1]s|[ \t]*))*$`, abnfExtension))
	abnfMember    = regexp.MustCompile("^" + abnfExtension + "$")
	abnfParams    = regexp.MustCompile(abnfParam)
)

// scannedByABNF does what scanned does. No member of a well-formed list contains a comma.
func scannedByABNF(value string) (items []string, ok bool) {
	if !abnfList.MatchString(value) {
		return nil, false
	}
	for member := range strings.SplitSeq(value, ",") {
		m := abnfMember.FindStringSubmatch(member)
		if m == nil {
			continue // an empty one
		}
		items = append(items, m[1])
		for _, p := range abnfParams.FindAllStringSubmatch(m[2], -1) {
			item := "; " + p[1]
			if p[2] != "" {
				// A token contains no backslash, so every backslash is an escape.
				item += "=" + strings.NewReplacer(`\`, "", `"`, "").Replace(p[2])
			}
			items = append(items, item)
		}
	}
	return items, true
}

// FuzzExtensions compares the scanner with the ABNF.
func FuzzExtensions(f *testing.F) {
	for _, c := range extensionLists {
		f.Add(c.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") {
			t.Skip("a field contains no line end")
		}
		got, ok := scanned(value)
		want, valid := scannedByABNF(value)
		if ok != valid || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, well-formed %t; want %q, %t by the ABNF", value, got, ok, want, valid)
		}
	})
}
