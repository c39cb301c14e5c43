package e2e

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

const cosmos = "κ\u1f79σμε" // bytes CE BA E1 BD B9 CF 83 CE BC CE B5

func TestUTF8(t *testing.T) {
	valid := "Hello-µ@ßöäüàá-UTF-8!!"
	impossible := cosmos + "\xed\xa0\x80edited" // a surrogate in the middle
	empty := unfinished(continuation(""))
	echoed := func(frames ...frame) func(p *peer) {
		return func(p *peer) {
			p.send(frames...)
			p.want(frames...)
			p.closes()
		}
	}
	runCases(t, start(t), []testCase{
		{"6.1.1", echoed(text(""))},
		{"6.1.2", echoed(unfinished(text("")), empty, continuation(""))},
		{"6.1.3", echoed(unfinished(text("")), unfinished(continuation("middle frame payload")), continuation(""))},
		{"6.2.1", echoed(text(valid))},
		{"6.2.2", echoed(unfinished(text(valid[:12])), continuation(valid[12:]))},
		{"6.2.3", echoed(fragments(opText, []byte(valid), 1)...)},
		{"6.2.4", echoed(fragments(opText, []byte(cosmos), 1)...)},
		{"6.2.4 by bytes", func(p *peer) {
			p.sendPieces(1, fragments(opText, []byte(cosmos), 1)...)
			p.want(fragments(opText, []byte(cosmos), 1)...)
			p.closes()
		}},
		{"6.3.1", func(p *peer) {
			p.send(text(impossible))
			p.wantFail(1007)
		}},
		{"6.3.2", func(p *peer) {
			sent := fragments(opText, []byte(impossible), 1)
			p.sendAsync(whole, sent...)
			// The byte ED may start a character, but A0 must not follow it.
			p.want(sent[:len(cosmos)+1]...)
			p.wantFail(1007)
		}},
		{"6.3.2 by bytes", func(p *peer) {
			p.sendAsync(1, text(impossible))
			p.wantFail(1007)
		}},
	})
}

// Cases 6.4: the server fails the connection at the first invalid byte. The rest of the message is
// never sent, so a server that waits for it fails the test.
func TestUTF8FailsFast(t *testing.T) {
	const (
		beyond = "\xf4\x90\x80\x80" // U+110000: invalid from its second byte
		end    = "edited"
	)
	inFrames := func(first, second string) func(p *peer) {
		return func(p *peer) {
			p.send(unfinished(text(first)))
			p.want(unfinished(text(first)))
			p.send(unfinished(continuation(second)))
			p.wantFail(1007)
		}
	}
	inPieces := func(first, second string) func(p *peer) {
		return func(p *peer) {
			all := encode(text(cosmos + beyond + end))
			const header = 2 + 4
			p.sendRaw(all[:header+len(first)])
			p.sendRaw(all[header+len(first) : header+len(first)+len(second)])
			p.wantFail(1007)
		}
	}
	runCases(t, start(t), []testCase{
		{"6.4.1", inFrames(cosmos, beyond)},
		{"6.4.2", inFrames(cosmos+beyond[:1], beyond[1:2])},
		{"6.4.3", inPieces(cosmos, beyond)},
		{"6.4.4", inPieces(cosmos+beyond[:1], beyond[1:2])},
	})
}

// texts lists the messages of cases 6.5 to 6.23: texts that RFC 3629 allows, and texts that it does
// not.
var texts = []struct {
	group string
	valid bool
	texts []string
}{
	{"6.5 whole words", true, []string{cosmos, "κόσμε", "Hello", "日本語", "𝄞🙂"}},
	{"6.6 characters complete", true, prefixes(cosmos, true)},
	{"6.6 characters cut short", false, prefixes(cosmos, false)},
	{"6.7 the first of each length", true, unhex("00", "c280", "e0a080", "f0908080")},
	{"6.8 five and six bytes, the first", false, unhex("f888808080", "fc8480808080")},
	{"6.9 the last of each length", true, unhex("7f", "dfbf", "efbfbf", "f48fbfbf")},
	{"6.10 four to six bytes, the last", false, unhex("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")},
	{"6.11 other boundaries", true, unhex("ed9fbf", "ee8080", "efbfbd", "f48fbfbf")},
	{"6.11 just beyond", false, unhex("f4908080")},
	{"6.12 stray continuations", false, append(unhex("80", "bf"), runs("\x80\xbf", 2, 7, continuations())...)},
	{"6.13 single start bytes", false, []string{
		startBytes(0xc0, 0xdf), startBytes(0xe0, 0xef), startBytes(0xf0, 0xf7), startBytes(0xf8, 0xfb), startBytes(0xfc, 0xfd),
	}},
	{"6.14 the last byte missing", false, missing},
	{"6.15 all of those together", false, []string{strings.Join(missing, "")}},
	{"6.16 impossible bytes", false, unhex("fe", "ff", "fefeffff")},
	{"6.17 overlong slashes", false, unhex("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af")},
	{"6.18 the longest overlong", false, unhex("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf")},
	{"6.19 overlong NUL", false, unhex("c080", "e08080", "f0808080", "f880808080", "fc8080808080")},
	{"6.20 single surrogates", false, unhex("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")},
	{"6.21 pairs of surrogates", false, unhex("eda080edb080", "eda080edbfbf", "edadbfedb080", "edadbfedbfbf",
		"edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf")},
	{"6.22 noncharacters", true, noncharacters()},
	{"6.23 specials", true, []string{"\uFFF9", "\uFFFA", "\uFFFB", "\uFFFC", "\uFFFD", "\uFFFE", "\uFFFF"}},
}

// missing lists the first and the last character of two to six bytes each, without its last byte.
var missing = unhex("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")

func TestUTF8Table(t *testing.T) {
	s := start(t)
	for _, group := range texts {
		for i, message := range group.texts {
			// Check the table itself against the standard library.
			if utf8.ValidString(message) != group.valid {
				t.Fatalf("test table: group %s has the wrong validity for %q", group.group, message)
			}
			name := fmt.Sprintf("%s.%d", group.group, i+1)
			t.Run(name+" whole", func(t *testing.T) { wantVerdict(s.upgrade(t), group.valid, whole, text(message)) })
			t.Run(name+" by bytes", func(t *testing.T) { wantVerdict(s.upgrade(t), group.valid, 1, text(message)) })
		}
	}
}

func wantVerdict(p *peer, valid bool, piece int, f frame) {
	p.t.Helper()
	p.sendAsync(piece, f)
	if valid {
		p.want(f)
		p.closes()
	} else {
		p.wantFail(1007)
	}
}

func unhex(codes ...string) []string {
	for i, code := range codes {
		b, err := hex.DecodeString(code)
		if err != nil {
			panic(err)
		}
		codes[i] = string(b)
	}
	return codes
}

// prefixes returns the prefixes of s that end after a complete character, or those that end within
// one.
func prefixes(s string, complete bool) []string {
	var some []string
	for n := 1; n <= len(s); n++ {
		if utf8.ValidString(s[:n]) == complete {
			some = append(some, s[:n])
		}
	}
	return some
}

// runs returns the bytes of s, repeated to lengths of least to most, followed by more.
func runs(s string, least, most int, more string) []string {
	var all []string
	for n := least; n <= most; n++ {
		all = append(all, strings.Repeat(s, n)[:n])
	}
	return append(all, more)
}

func continuations() string {
	var b strings.Builder
	for c := 0x80; c <= 0xBF; c++ {
		b.WriteByte(byte(c))
	}
	return b.String()
}

// startBytes returns the bytes from first to last, each of which starts a character, separated by
// spaces.
func startBytes(first, last int) string {
	var b strings.Builder
	for c := first; c <= last; c++ {
		b.WriteByte(byte(c))
		b.WriteByte(' ')
	}
	return b.String()
}

// noncharacters returns the last two code points of each plane. They are valid in UTF-8, although
// not intended for interchange.
func noncharacters() []string {
	var all []string
	for plane := range rune(17) {
		all = append(all, string(plane<<16|0xFFFE), string(plane<<16|0xFFFF))
	}
	return all
}
