package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// This file has cases 1 to 10 of the Autobahn test suite, under its numbers, so that a failure can
// be looked up there. Every case has its own connection.

type testCase struct {
	name string
	talk func(p *peer)
}

func runCases(t *testing.T, s *server, cases []testCase) {
	t.Helper()
	for _, e := range cases {
		t.Run(e.name, func(t *testing.T) { e.talk(s.upgrade(t)) })
	}
}

const whole = 1 << 30 // size of a piece that is larger than any message

func TestMessages(t *testing.T) {
	var cases []testCase
	for group, op := range map[int]byte{1: opText, 2: opBinary} {
		fill := "*"
		if op == opBinary {
			fill = "\xfe"
		}
		for i, c := range []struct{ length, piece int }{
			{0, whole}, {125, whole}, {126, whole}, {127, whole}, {128, whole}, {65535, whole}, {65536, whole}, {65536, 997},
		} {
			cases = append(cases, testCase{fmt.Sprintf("1.%d.%d", group, i+1), func(p *peer) {
				message := frame{op: op, payload: []byte(strings.Repeat(fill, c.length))}
				p.sendPieces(c.piece, message)
				p.want(message)
				p.closes()
			}})
		}
	}
	runCases(t, start(t), cases)
}

func TestPingPong(t *testing.T) {
	var pings, pongs []frame
	for i := range 10 {
		pings = append(pings, ping(fmt.Sprint("payload-", i)))
		pongs = append(pongs, pong(fmt.Sprint("payload-", i)))
	}
	longest := strings.Repeat("\xfe", 125)
	answers := func(piece int, payload string) func(p *peer) {
		return func(p *peer) {
			p.sendPieces(piece, ping(payload))
			p.want(pong(payload))
			p.closes()
		}
	}
	runCases(t, start(t), []testCase{
		{"2.1", answers(whole, "")},
		{"2.2", answers(whole, "Hello, world!")},
		{"2.3", answers(whole, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")},
		{"2.4", answers(whole, longest)},
		{"2.5", func(p *peer) {
			p.send(ping(longest + "\xfe"))
			p.wantFail(1002)
		}},
		{"2.6", answers(1, longest)},
		// A pong has no answer, so the next frame answers what is sent after it.
		{"2.7", func(p *peer) {
			p.send(pong(""))
			p.closes()
		}},
		{"2.8", func(p *peer) {
			p.send(pong("unsolicited"))
			p.closes()
		}},
		{"2.9", func(p *peer) {
			p.send(pong("unsolicited"), ping("our own"))
			p.want(pong("our own"))
			p.closes()
		}},
		{"2.10", func(p *peer) {
			p.send(pings...)
			p.want(pongs...)
			p.closes()
		}},
		{"2.11", func(p *peer) {
			p.sendPieces(1, pings...)
			p.want(pongs...)
			p.closes()
		}},
	})
}

// refused sends frames of which one must fail the connection with 1002. A valid text message at the
// start is echoed first.
func refused(piece int, frames ...frame) func(p *peer) {
	return func(p *peer) {
		p.sendAsync(piece, frames...)
		if frames[0].op == opText && frames[0].rsv == 0 {
			p.want(frames[0])
		}
		p.wantFail(1002)
	}
}

func TestReservedBits(t *testing.T) {
	hello := text("Hello, world!")
	runCases(t, start(t), []testCase{
		{"3.1", refused(whole, reserved(1, hello))},
		{"3.2", refused(whole, hello, reserved(2, hello), ping(""))},
		{"3.3", refused(3, hello, reserved(3, hello), ping(""))},
		{"3.4", refused(1, hello, reserved(4, hello), ping(""))},
		{"3.5", refused(whole, reserved(5, bin([]byte("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))))},
		{"3.6", refused(whole, reserved(6, ping("Hello, world!")))},
		{"3.7", refused(whole, reserved(7, closeFrame(1000, "")))},
	})
}

func TestReservedOpcodes(t *testing.T) {
	var cases []testCase
	hello := text("Hello, world!")
	for group, first := range map[int]byte{1: 3, 2: 11} {
		for i := range byte(5) {
			unknown := frame{op: first + i}
			loaded := frame{op: first + i, payload: []byte("reserved")}
			talk := [][]frame{{unknown}, {loaded}, {hello, unknown, ping("")}, {hello, loaded, ping("")}, {hello, loaded, ping("")}}[i]
			piece := whole
			if i == 4 {
				piece = 1
			}
			cases = append(cases, testCase{fmt.Sprintf("4.%d.%d", group, i+1), refused(piece, talk...)})
		}
	}
	runCases(t, start(t), cases)
}

func TestFragmentation(t *testing.T) {
	// A message in two fragments, written in pieces, with or without pings between them.
	inTwo := func(piece int, inside ...frame) func(p *peer) {
		return func(p *peer) {
			first, last := unfinished(text("fragment1")), continuation("fragment2")
			sent, wanted := []frame{first}, []frame{first}
			for _, f := range inside {
				sent, wanted = append(sent, f), append(wanted, pong(string(f.payload)))
			}
			p.sendPieces(piece, append(sent, last)...)
			p.want(append(wanted, last)...)
			p.closes()
		}
	}
	orphan := continuation("continues nothing")
	// A message in five fragments, with pings that must be answered before its end.
	inFive := func(piece int) func(p *peer) {
		return func(p *peer) {
			a, b := unfinished(text("fragment1")), unfinished(continuation("fragment2"))
			c, d, e := unfinished(continuation("fragment3")), unfinished(continuation("fragment4")), continuation("fragment5")
			p.sendPieces(piece, a, b, ping("pongme 1!"))
			p.want(a, b, pong("pongme 1!"))
			p.sendPieces(piece, c, d, ping("pongme 2!"))
			p.want(c, d, pong("pongme 2!"))
			p.sendPieces(piece, e)
			p.want(e)
			p.closes()
		}
	}
	// A text message that starts inside another message.
	nested := func(piece int) func(p *peer) {
		return func(p *peer) {
			first := unfinished(text("fragment1"))
			p.sendAsync(piece, first, text("fragment2"))
			p.want(first)
			p.wantFail(1002)
		}
	}
	hello := text("Hello, world!")
	complete := []frame{unfinished(text("fragment1")), continuation("fragment2")}
	runCases(t, start(t), []testCase{
		{"5.1", refused(whole, unfinished(ping("fragment1")), continuation("fragment2"))},
		{"5.2", refused(whole, unfinished(pong("fragment1")), continuation("fragment2"))},
		{"5.3", inTwo(whole)},
		{"5.4", inTwo(15)}, // the length of the first frame
		{"5.5", inTwo(1)},
		{"5.6", inTwo(whole, ping("ping"))},
		{"5.7", inTwo(15, ping("ping"))},
		{"5.8", inTwo(1, ping("ping"))},
		{"5.9", refused(whole, orphan, hello)},
		{"5.10", refused(23, orphan, hello)},
		{"5.11", refused(1, orphan, hello)},
		{"5.12", refused(whole, unfinished(orphan), hello)},
		{"5.13", refused(23, unfinished(orphan), hello)},
		{"5.14", refused(1, unfinished(orphan), hello)},
		{"5.15", func(p *peer) {
			p.send(append(complete, unfinished(orphan), hello)...)
			p.want(complete...)
			p.wantFail(1002)
		}},
		{"5.16", refused(whole, unfinished(orphan), hello, unfinished(orphan), hello)},
		{"5.17", refused(whole, orphan, hello, orphan, hello)},
		{"5.18", nested(whole)},
		{"5.18 by bytes", nested(1)},
		{"5.19", inFive(whole)},
		{"5.20", inFive(15)},
	})
}

func TestClosingHandshake(t *testing.T) {
	// The server answers nothing after the client's close frame, although it may still read.
	ignores := func(before, after []frame) func(p *peer) {
		return func(p *peer) {
			bye := closeFrame(1000, "")
			p.send(append(append(before, bye), after...)...)
			p.want(before...)
			p.wantClosed(bye)
		}
	}
	answered := func(f frame) func(p *peer) {
		return func(p *peer) {
			p.send(f)
			p.wantClosed(f)
		}
	}
	hello := text("Hello World!")
	longest := strings.Repeat("*", 123)
	cases := []testCase{
		{"7.1.1", ignores([]frame{hello}, nil)},
		{"7.1.2", ignores(nil, []frame{closeFrame(1000, "")})},
		{"7.1.3", ignores(nil, []frame{ping("")})},
		{"7.1.4", ignores(nil, []frame{hello})},
		{"7.1.5", ignores([]frame{unfinished(text("fragment1"))}, []frame{continuation("fragment2")})},
		{"7.1.6", func(p *peer) {
			big := text(strings.Repeat("BAsd7&jh23", 26215))
			p.sendAsync(whole, big, hello, closeFrame(1000, ""), ping(""))
			p.wantMessage(opText, big.payload)
			p.want(hello)
			p.wantClosed(closeFrame(1000, ""))
		}},
		{"7.3.1", answered(frame{op: opClose})},
		{"7.3.2", refused(whole, frame{op: opClose, payload: []byte("a")})},
		{"7.3.3", answered(closeFrame(1000, ""))},
		{"7.3.4", answered(closeFrame(1000, "Hello World!"))},
		{"7.3.5", answered(closeFrame(1000, longest))},
		{"7.3.6", refused(whole, closeFrame(1000, longest+"*"))},
		{"7.3.6 header only", func(p *peer) {
			p.sendRaw(frame{op: opClose}.header(126, []byte("mask"))[:2])
			p.wantFail(1002)
		}},
		{"7.5.1", func(p *peer) {
			p.send(closeFrame(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))
			p.wantFailWith(1007, 1002)
			p.wantEOF()
		}},
		{"7.5.1 unfinished", func(p *peer) {
			p.send(closeFrame(1000, "\xce\xba\xe1"))
			p.wantFailWith(1007, 1002)
			p.wantEOF()
		}},
		{"7.7 by bytes", func(p *peer) {
			p.sendPieces(1, closeFrame(4000, "bye"))
			p.wantClosed(closeFrame(4000, "bye"))
		}},
	}
	for _, code := range validCloseCodes {
		cases = append(cases, testCase{fmt.Sprint("7.7 code ", code), answered(closeFrame(code, "κόσμε"))})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999} {
		cases = append(cases, testCase{fmt.Sprint("7.9 code ", code), refused(whole, closeFrame(code, ""))})
	}
	// The RFC does not define these codes: any answer is valid, but the connection must end.
	for _, code := range []int{5000, 65535} {
		cases = append(cases, testCase{fmt.Sprint("7.13 code ", code), func(p *peer) {
			p.send(closeFrame(code, ""))
			p.wantDisconnect()
		}})
	}
	runCases(t, start(t), cases)
}

// validCloseCodes lists the codes that RFC 6455 and its registry let an endpoint send, and the
// bounds of the ranges for libraries and applications.
var validCloseCodes = []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}

// random returns a message of random bytes, or of random characters for a text, so that the echo of
// a large message shows any part that is lost, duplicated or swapped.
func random(op byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	if op == opBinary {
		return b
	}
	for i := range b {
		b[i] = ' ' + b[i]&0x3F
	}
	// A character of two, three and four bytes each, at intervals.
	const chars = "é€𝄞"
	for at := 0; at+len(chars) <= size; at += 4093 {
		copy(b[at:], chars)
	}
	return b
}

func TestLargeMessages(t *testing.T) {
	const KiB, MiB = 1 << 10, 1 << 20
	var cases []testCase
	add := func(group, number, size, fragment, piece int, op byte) {
		cases = append(cases, testCase{fmt.Sprintf("9.%d.%d", group, number), func(p *peer) {
			message := random(op, size)
			p.sendAsync(piece, fragments(op, message, fragment)...)
			p.wantMessage(op, message)
			p.wantSent()
			p.closes()
		}})
	}
	for i, size := range []int{64 * KiB, 256 * KiB, MiB, 4 * MiB, 8 * MiB, 16 * MiB} {
		add(1, i+1, size, whole, whole, opText)
		add(2, i+1, size, whole, whole, opBinary)
	}
	for i, fragment := range []int{64, 256, KiB, 4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB, MiB, 4 * MiB} {
		add(3, i+1, 4*MiB, fragment, whole, opText)
		add(4, i+1, 4*MiB, fragment, whole, opBinary)
	}
	for i, piece := range []int{64, 128, 256, 512, KiB, 2 * KiB} {
		add(5, i+1, MiB, whole, piece, opText)
		add(6, i+1, MiB, whole, piece, opBinary)
	}
	runCases(t, start(t), cases)
}

func TestRoundTrips(t *testing.T) {
	var cases []testCase
	for group, op := range map[int]byte{7: opText, 8: opBinary} {
		for i, size := range []int{0, 16, 64, 256, 1024, 4096} {
			cases = append(cases, testCase{fmt.Sprintf("9.%d.%d", group, i+1), func(p *peer) {
				message := frame{op: op, payload: random(op, size)}
				for range 1000 {
					p.send(message)
					p.want(message)
				}
				p.closes()
			}})
		}
	}
	cases = append(cases, testCase{"10.1.1", func(p *peer) {
		sent := fragments(opText, bytes.Repeat([]byte("*"), 65536), 1300)
		p.send(sent...)
		p.want(sent...)
		p.closes()
	}})
	runCases(t, start(t), cases)
}
