package echo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestEcho(t *testing.T) {
	converse(t, []rule{
		{name: "a text comes back as text (5.6)", talk: func(p *peer) {
			p.sends(text("Hello"))
			p.wantsText("Hello", "the same opcode, the same bytes")
		}},
		{name: "a binary comes back as binary (5.6)", talk: func(p *peer) {
			p.sends(binaryOf("\x00\xff\xfe\xed\xa0\x80"))
			p.wantsFrame(ws.OpBinary, true, "\x00\xff\xfe\xed\xa0\x80", "binary need not be UTF-8")
		}},
		{name: "empty messages come back (5.6)", talk: func(p *peer) {
			p.sends(text(""), binaryOf(""), text(""))
			p.wantsText("", "an empty message is a message")
			p.wantsFrame(ws.OpBinary, true, "", "with its own opcode")
			p.wantsText("", "and so is the next")
		}},
		{name: "fragments come back as they came (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "Hel"))
			p.wantsFrame(ws.OpText, false, "Hel", "at once: no fragment waits for the end of the message")
			p.sends(more("lo"))
			p.wantsFrame(ws.OpContinuation, false, "lo", "the second is a continuation")
			p.sends(last("!"))
			p.wantsFrame(ws.OpContinuation, true, "!", "the last has FIN")
			p.wantsOpen("the message is at its end")
		}},
		{name: "empty fragments come back (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, ""), more(""), more("x"), more(""), last(""))
			p.wantsFrame(ws.OpText, false, "", "an empty first fragment")
			p.wantsFrame(ws.OpContinuation, false, "", "an empty continuation")
			p.wantsFrame(ws.OpContinuation, false, "x", "a continuation of one byte")
			p.wantsFrame(ws.OpContinuation, false, "", "another empty continuation")
			p.wantsFrame(ws.OpContinuation, true, "", "an empty last fragment ends the message")
			p.wantsOpen("the message is at its end")
		}},
		{name: "a message of empty fragments only comes back (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpBinary, ""), last(""))
			p.wantsFrame(ws.OpBinary, false, "", "the first")
			p.wantsFrame(ws.OpContinuation, true, "", "the last")
		}},
		{name: "messages that arrive together are echoed in order", talk: func(p *peer) {
			var all []sendable
			for i := range 100 {
				all = append(all, text(fmt.Sprint("text ", i)), binaryOf(strings.Repeat("b", i*3)))
			}
			p.sends(all...)
			for i := range 100 {
				p.wantsText(fmt.Sprint("text ", i), "in order")
				p.wantsFrame(ws.OpBinary, true, strings.Repeat("b", i*3), "in order")
			}
		}},
		{name: "a zero mask is a mask (5.3)", talk: func(p *peer) {
			p.sends(raw("\x81\x85\x00\x00\x00\x00Hello"))
			p.wantsText("Hello", "a zero mask is insecure but valid")
		}},
		{name: "each frame has its own mask (5.3)", talk: func(p *peer) {
			p.sends(raw("\x81\x82\x01\x02\x03\x04"+"IK"), raw("\x81\x85\xff\xff\xff\xff"+"\xb7\x9a\x93\x93\x90"))
			p.wantsText("HI", "the mask of the first frame")
			p.wantsText("Hello", "the mask of the second frame")
		}},
	})
}

func TestPing(t *testing.T) {
	long := strings.Repeat("\xfe", 125)
	converse(t, []rule{
		{name: "a ping is answered with its payload (5.5.2)", talk: func(p *peer) {
			p.sends(ping("Hello"), ping(""), ping("\x00\xff\xfe"), ping(long))
			p.wantsPong("Hello", "text")
			p.wantsPong("", "nothing")
			p.wantsPong("\x00\xff\xfe", "bytes that are not UTF-8")
			p.wantsPong(long, "the longest payload of a control frame")
		}},
		{name: "ten pings get ten pongs in order (5.5.3)", talk: func(p *peer) {
			for i := range 10 {
				p.sends(ping(fmt.Sprint(i)))
			}
			for i := range 10 {
				p.wantsPong(fmt.Sprint(i), "in order")
			}
		}},
		{name: "ten pings in one segment get ten pongs in order (5.5.3)", talk: func(p *peer) {
			var all []sendable
			for i := range 10 {
				all = append(all, ping(fmt.Sprint(i)))
			}
			p.sends(all...)
			for i := range 10 {
				p.wantsPong(fmt.Sprint(i), "in order")
			}
		}},
		{name: "an unsolicited pong is ignored (5.5.3)", talk: func(p *peer) {
			p.sends(pong(""), pong("Hello"), pong(long))
			p.wantsNothing("a pong needs no answer")
			p.sends(pong("x"), ping("y"), pong("z"), text("!"))
			p.wantsPong("y", "a ping between pongs is answered")
			p.wantsText("!", "a message after a pong is echoed")
		}},
		{name: "a ping between fragments is answered at once (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "frag"), ping("1"))
			p.wantsFrame(ws.OpText, false, "frag", "the fragment before")
			p.wantsPong("1", "before the message ends")
			p.sends(pong("no"), ping("2"), more("ment"), ping("3"), last("ed"))
			p.wantsPong("2", "at once")
			p.wantsFrame(ws.OpContinuation, false, "ment", "the message goes on")
			p.wantsPong("3", "at once")
			p.wantsFrame(ws.OpContinuation, true, "ed", "the message ends")
		}},
		{name: "a ping inside a character is answered (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "\xe2\x82"), ping("\xff"), last("\xac"))
			p.wantsFrame(ws.OpText, false, "\xe2\x82", "the beginning of a character")
			p.wantsPong("\xff", "a ping's payload is not part of the text")
			p.wantsFrame(ws.OpContinuation, true, "\xac", "the end of the character")
		}},
		{name: "an incomplete ping is not answered", talk: func(p *peer) {
			p.sends(ping("Hello").upTo(4))
			p.wantsNothing("a control frame is never cut through")
			p.sends(ping("Hello").from(4))
			p.wantsPong("Hello", "now it is complete")
		}},
	})
}

func TestText(t *testing.T) {
	var rules []rule
	for _, c := range texts {
		valid, name := c.invalid < 0 && c.whole, fmt.Sprintf("%s, % x", c.name, abridge(c.text))
		wantsEcho := func(p *peer, op ws.OpCode, fin bool, part string) { p.wantsFrame(op, fin, part, c.name) }

		rules = append(rules, rule{name: name + " in one frame (8.1)", talk: func(p *peer) {
			p.sends(text(c.text), ping("?"))
			if !valid {
				p.wantsFailure(1007, c.name)
				return
			}
			wantsEcho(p, ws.OpText, true, c.text)
			p.wantsPong("?", "the text is valid")
		}}, rule{name: name + " as binary (5.6)", talk: func(p *peer) {
			p.sends(binaryOf(c.text))
			wantsEcho(p, ws.OpBinary, true, c.text)
		}}, rule{name: name + " in a fragment for each byte (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpText, ""))
			wantsEcho(p, ws.OpText, false, "")
			for i := range len(c.text) {
				p.sends(more(c.text[i : i+1]))
				if i == c.invalid {
					p.wantsFailure(1007, "no further bytes can make this valid")
					return
				}
				wantsEcho(p, ws.OpContinuation, false, c.text[i:i+1])
			}
			p.sends(last(""), ping("?"))
			if !valid {
				p.wantsFailure(1007, "the message ends inside a character")
				return
			}
			wantsEcho(p, ws.OpContinuation, true, "")
			p.wantsPong("?", "the text is valid")
		}})

		if c.invalid >= 0 {
			i := c.invalid
			rules = append(rules, rule{name: name + " fails at its first invalid byte (8.1)", talk: func(p *peer) {
				f := text(c.text + "and so on")
				p.sends(f.upTo(i))
				p.wantsNothing("so far it is UTF-8")
				p.sends(raw(f.from(i))[:1])
				p.wantsFailure(1007, "now it is not, whatever follows")
			}})
		}
		if valid && len(c.text) > 0 {
			rules = append(rules, rule{name: name + " in three fragments, two of them cut (5.4)", talk: func(p *peer) {
				a, b := len(c.text)/3, 2*len(c.text)/3
				p.sends(first(ws.OpText, c.text[:a]), more(c.text[a:b]), last(c.text[b:]))
				wantsEcho(p, ws.OpText, false, c.text[:a])
				wantsEcho(p, ws.OpContinuation, false, c.text[a:b])
				wantsEcho(p, ws.OpContinuation, true, c.text[b:])
			}})
		}
	}
	rules = append(rules,
		rule{name: "the bytes of one message do not complete those of another (8.1)", talk: func(p *peer) {
			p.sends(text("\xe2\x82"), text("\xac"))
			p.wantsFailure(1007, "each message must be UTF-8 by itself")
		}},
		rule{name: "a continuation of a text must be UTF-8 as well (5.4)", talk: func(p *peer) {
			p.sends(first(ws.OpBinary, "\xff"), last("\xff"), first(ws.OpText, "\xe2"))
			p.wantsFrame(ws.OpBinary, false, "\xff", "binary")
			p.wantsFrame(ws.OpContinuation, true, "\xff", "binary")
			p.wantsFrame(ws.OpText, false, "\xe2", "so far it is UTF-8")
			p.sends(last("\xff"))
			p.wantsFailure(1007, "the continuation of a text is text")
		}},
		rule{name: "an invalid byte in the second of three frames fails before the third (8.1)", talk: func(p *peer) {
			p.sends(first(ws.OpText, "κόσμε"))
			p.wantsFrame(ws.OpText, false, "κόσμε", "so far it is UTF-8")
			p.sends(more("\xf4\x90"))
			p.wantsFailure(1007, "beyond U+10FFFF: right after the second frame")
		}},
	)
	converse(t, rules)
}

func abridge(s string) string { return s[:min(len(s), 8)] }

func TestMaxMessage(t *testing.T) {
	limit := func(cfg *Config) { cfg.MaxMessage = 1000 }
	kilo := strings.Repeat("k", 1000)
	converse(t, []rule{
		{name: "a message may be as long as MaxMessage (10.4)", with: limit, talk: func(p *peer) {
			p.sends(text(kilo), binaryOf(kilo), text(kilo))
			p.wantsText(kilo, "exactly MaxMessage bytes")
			p.wantsFrame(ws.OpBinary, true, kilo, "the limit is per message")
			p.wantsText(kilo, "the limit is per message")
		}},
		{name: "a message one byte longer fails (7.4.1, 1009)", with: limit, talk: func(p *peer) {
			p.sends(text(kilo + "!"))
			p.wantsFailure(1009, "one byte too many")
		}},
		{name: "it fails at its header (7.4.1, 1009)", with: limit, talk: func(p *peer) {
			p.sends(text(kilo), text(kilo+"!").upTo(0))
			p.wantsText(kilo, "earlier messages are echoed first")
			p.wantsFailure(1009, "the payload need not arrive")
		}},
		{name: "the longest possible frame fails at its header (5.2)", with: limit, talk: func(p *peer) {
			p.sends(binaryOf("").header(1<<63 - 1))
			p.wantsFailure(1009, "the length itself is valid")
		}},
		{name: "fragments count together (5.4)", with: limit, talk: func(p *peer) {
			p.sends(first(ws.OpText, kilo[:600]), more(kilo[:400]), more(""), ping("?"), last(""))
			p.wantsFrame(ws.OpText, false, kilo[:600], "600")
			p.wantsFrame(ws.OpContinuation, false, kilo[:400], "1000")
			p.wantsFrame(ws.OpContinuation, false, "", "still 1000")
			p.wantsPong("?", "pings do not count")
			p.wantsFrame(ws.OpContinuation, true, "", "still 1000")
			p.wantsOpen("the limit is per message")
		}},
		{name: "a fragment that makes it one byte longer fails at its header (7.4.1, 1009)", with: limit, talk: func(p *peer) {
			p.sends(first(ws.OpText, kilo[:600]), more(kilo[:401]).upTo(0))
			p.wantsFrame(ws.OpText, false, kilo[:600], "600")
			p.wantsFailure(1009, "1001")
		}},
		{name: "a fragment of the longest possible length fails (5.2)", with: limit, talk: func(p *peer) {
			p.sends(first(ws.OpText, "x"), more("").header(1<<63-1))
			p.wantsFrame(ws.OpText, false, "x", "1")
			p.wantsFailure(1009, "the sum is 2⁶³")
		}},
		{name: "a limit of one byte", with: func(cfg *Config) { cfg.MaxMessage = 1 }, talk: func(p *peer) {
			p.sends(text(""), text("x"), ping("long enough"), text("xy"))
			p.wantsText("", "0")
			p.wantsText("x", "1")
			p.wantsPong("long enough", "the limit does not apply to control frames")
			p.wantsFailure(1009, "2")
		}},
		{name: "the limit applies to frames that are cut through (10.4)", cuts: true, with: func(cfg *Config) { cfg.MaxMessage, cfg.MaxFrame = 1000, 64 }, talk: func(p *peer) {
			p.sends(text(kilo), first(ws.OpBinary, kilo[:500]), more(kilo[:501]).upTo(0))
			p.wantsText(kilo, "1000")
			p.wantsFrame(ws.OpBinary, false, kilo[:500], "500")
			p.wantsFailure(1009, "1001")
		}},
	})
}

func TestCutThrough(t *testing.T) {
	short := func(cfg *Config) { cfg.MaxFrame = 64 }
	long := strings.Repeat("0123456789", 100)
	euro := strings.Repeat("€uro ", 100)
	rules := []rule{
		{name: "a frame of MaxFrame bytes is kept", with: short, talk: func(p *peer) {
			f := text(long[:64-6])
			p.sends(f.upTo(57))
			if !p.cuts { // the caller has memory
				p.wantsNothing("the frame is kept until it is complete")
			}
			p.sends(f.from(57))
			p.wantsText(long[:64-6], "one frame")
		}},
		{name: "a frame one byte longer is cut through (5.4)", with: short, cuts: true, talk: func(p *peer) {
			f := text(long[:64-5])
			p.sends(f.upTo(58))
			p.wantsFrame(ws.OpText, false, long[:58], "the payload that has arrived, as a fragment")
			p.sends(f.from(58))
			p.wantsFrame(ws.OpContinuation, true, long[58:59], "the last byte, as the last fragment")
			p.wantsOpen("the message is at its end")
		}},
		{name: "a header alone gets no output", with: short, cuts: true, talk: func(p *peer) {
			f := text(long)
			p.sends(f.upTo(0))
			if len(p.unread) > 0 {
				p.t.Fatalf("got %s, want no empty fragment", gist(p.unread))
			}
			p.sends(f.from(0))
			p.wantsText(long, "the first piece has the opcode")
		}},
		{name: "a long binary comes back the same (5.4)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(binaryOf(long), binaryOf(long[1:]), binaryOf(long[2:]))
			for i := range 3 {
				p.wantsFrame(ws.OpBinary, true, long[i:], "the first piece has the opcode, the last has FIN, and the mask continues")
			}
		}},
		{name: "a long text comes back the same (5.4)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(text(euro), ping("?"), text(euro))
			p.wantsText(euro, "pieces may end inside a character")
			p.wantsPong("?", "a ping after the text is answered after it")
			p.wantsText(euro, "the next message follows")
		}},
		{name: "long fragments stay fragments of one message (5.4)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(first(ws.OpText, euro), ping("?"), more(euro), more(""), more("x"), last(long))
			p.wantsFrame(ws.OpText, false, euro, "the first piece of the first has the opcode; no piece has FIN")
			p.wantsPong("?", "a ping between fragments is answered between them")
			p.wantsFrame(ws.OpContinuation, false, euro, "all other pieces are continuations")
			p.wantsFrame(ws.OpContinuation, false, "", "an empty fragment as well")
			p.wantsFrame(ws.OpContinuation, false, "x", "a short fragment as well")
			p.wantsFrame(ws.OpContinuation, true, long, "the last piece of the last has FIN")
			p.wantsOpen("the message is at its end")
		}},
		{name: "a very long frame needs no memory", with: short, cuts: true, talk: func(p *peer) {
			mega := strings.Repeat(long, 300)
			p.sends(text(mega))
			p.wantsText(mega, "byte for byte")
		}},
		{name: "an invalid byte in a later piece fails (8.1)", with: short, cuts: true, talk: func(p *peer) {
			f := text(euro + "\xc0" + euro)
			p.sends(f.upTo(100))
			p.wantsFrame(ws.OpText, false, euro[:100], "so far it is UTF-8")
			p.sends(f.from(100))
			p.wantsFailure(1007, "now it is not")
		}},
		{name: "a later piece that ends inside a character fails (8.1)", with: short, cuts: true, talk: func(p *peer) {
			f := text(euro + "\xe2\x82")
			p.sends(f.upTo(len(euro)))
			p.wantsFrame(ws.OpText, false, euro, "so far it is UTF-8")
			p.sends(f.from(len(euro)))
			p.wantsFailure(1007, "the message ends inside a character")
		}},
		{name: "a fragment may end inside a character (5.4)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(first(ws.OpText, euro+"\xe2\x82"), last("\xac"+euro))
			p.wantsFrame(ws.OpText, false, euro+"\xe2\x82", "the message continues")
			p.wantsFrame(ws.OpContinuation, true, "\xac"+euro, "the end of the character")
		}},
		{name: "a violation after a frame that is cut through fails (7.1.7)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(text(long), frame{op: 3, fin: true})
			p.wantsText(long, "earlier messages are echoed first")
			p.wantsFailure(1002, "a reserved opcode")
		}},
		{name: "a close after a frame that is cut through is answered after it (5.5.1)", with: short, cuts: true, talk: func(p *peer) {
			p.sends(text(long), closing(1000, ""))
			p.wantsText(long, "earlier messages are echoed first")
			p.wantsFailure(1000, "then the close")
		}},
	}
	// Pieces of every small length, with all four alignments of the mask.
	for n := range 9 {
		rules = append(rules, rule{name: fmt.Sprintf("a frame cut after %d bytes continues with the right byte of its mask (5.3)", n), with: short, cuts: true,
			talk: func(p *peer) {
				f := binaryOf(long)
				p.sends(f.upTo(n))
				p.sends(raw(f.from(n))[:5])
				p.sends(raw(f.from(n))[5:])
				p.wantsFrame(ws.OpBinary, true, long, "byte for byte")
			}})
	}
	converse(t, rules)
}

// A caller that has kept a frame can make Receive cut it through later, without new input, when
// memory runs out.
func TestKeptFrameIsCutThroughWhenMemoryRunsOut(t *testing.T) {
	const whole = "Füße und Flöße"
	for n := range len(whole) {
		c := newConnection(t, usual())
		c.state = Upgraded()
		f := text(whole)
		if output := c.arrive(f.upTo(n).wire(), true); len(output) > 0 {
			t.Fatalf("got %s, want the frame to be kept", gist(output))
		}
		output := append([]byte(nil), c.arrive(nil, false)...)
		if len(c.rest) > 0 {
			t.Fatalf("got %d bytes of rest with keep false, want none", len(c.rest))
		}
		output = append(output, c.arrive(f.from(n).wire(), true)...)
		if got := joined(answersIn(t, output, false)); len(got) != 1 || got[0] != (answer{ws.OpText, true, whole}) {
			t.Errorf("cut through after %d bytes: got %s, want %q", n, gist(output), whole)
		}
	}
}
