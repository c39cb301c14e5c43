package e2e

import (
	"strings"
	"testing"
)

// This file has protocol tests that the Autobahn test suite does not contain.

func TestFraming(t *testing.T) {
	headerOnly := func(f frame, length uint64) func(p *peer) {
		return func(p *peer) {
			p.sendRaw(f.header(length, []byte("mask")))
			p.wantFail(1002)
		}
	}
	with := func(change func(*frame), f frame) func(p *peer) {
		change(&f)
		return refused(whole, text("a valid one first"), f)
	}
	unmasked := func(f *frame) { f.unmasked = true }
	in16 := func(f *frame) { f.wide = 2 }
	in64 := func(f *frame) { f.wide = 8 }
	runCases(t, start(t), []testCase{
		{"unmasked text", with(unmasked, text("in the clear"))},
		{"unmasked empty text", with(unmasked, text(""))},
		{"unmasked ping", with(unmasked, ping("in the clear"))},
		{"unmasked close", with(unmasked, closeFrame(1000, ""))},
		{"unmasked continuation", func(p *peer) {
			last := continuation("in the clear")
			last.unmasked = true
			p.send(unfinished(text("masked")), last)
			p.want(unfinished(text("masked")))
			p.wantFail(1002)
		}},
		{"length 5 in 16 bits", with(in16, text("short"))},
		{"length 125 in 16 bits", with(in16, text(strings.Repeat("*", 125)))},
		{"length 5 in 64 bits", with(in64, text("short"))},
		{"length 126 in 64 bits", with(in64, text(strings.Repeat("*", 126)))},
		{"length 65535 in 64 bits", with(in64, text(strings.Repeat("*", 65535)))},
		{"length 0 in 64 bits", with(in64, text(""))},
		{"ping's length in 16 bits", with(in16, ping("short"))},
		{"ping's length in 64 bits", with(in64, ping("short"))},
		{"length with the top bit", headerOnly(text(""), 1<<63|5)},
		{"length of all ones", headerOnly(bin(nil), 1<<64-1)},
		{"ping of 126, header only", headerOnly(ping(""), 126)},
		{"reserved opcode, header only", headerOnly(frame{op: 3}, 5)},
		{"reserved bit, header only", headerOnly(reserved(1, text("")), 5)},
	})
}

// A frame that announces the largest length neither allocates memory nor crashes the server, which
// echoes only what arrives.
func TestLargestFrameLength(t *testing.T) {
	s := start(t)
	p := s.upgrade(t)
	p.sendRaw(bin(nil).header(1<<63-1, []byte{0, 0, 0, 0}))
	p.Close()
	q := s.upgrade(t)
	q.send(text("still there?"))
	q.want(text("still there?"))
	q.closes()
}

func TestFramesWithTheRequest(t *testing.T) {
	s := start(t)
	first, second := text("before you answered"), bin(random(opBinary, 3000))
	t.Run("echoed", func(t *testing.T) {
		w, err := open(s.addr, first, second, ping("and you?"))
		p := newPeer(t, w, err)
		p.want(first, second, pong("and you?"))
		p.closes()
	})
	t.Run("half a frame", func(t *testing.T) {
		p := s.dial(t)
		all := append([]byte(request("GET / HTTP/1.1")), encode(first)...)
		p.sendRaw(all[:len(all)-7])
		p.wantUpgraded()
		p.sendRaw(all[len(all)-7:])
		p.want(first)
		p.closes()
	})
	t.Run("a close", func(t *testing.T) {
		w, err := open(s.addr, closeFrame(1000, "just looking"))
		p := newPeer(t, w, err)
		p.wantClosed(closeFrame(1000, "just looking"))
	})
	t.Run("nonsense", func(t *testing.T) {
		w, err := open(s.addr, frame{op: 3})
		p := newPeer(t, w, err)
		p.wantFail(1002)
	})
}

func TestManyFramesTogether(t *testing.T) {
	var sent, wanted []frame
	for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 3, 70000, 0, 5} {
		message := bin(random(opBinary, size))
		sent = append(sent, message, ping("between"))
		wanted = append(wanted, message, pong("between"))
	}
	s := start(t)
	for name, piece := range map[string]int{"in one write": whole, "in pieces of 1448": 1448, "in pieces of 7": 7} {
		t.Run(name, func(t *testing.T) {
			p := s.upgrade(t)
			p.sendAsync(piece, sent...)
			p.want(wanted...)
			p.wantSent()
			p.closes()
		})
	}
}

// A message longer than the server's buffer is echoed in fragments. Control frames between the
// client's fragments are answered before the end of the message.
func TestPingsInsideLargeMessages(t *testing.T) {
	s := start(t)
	for name, size := range map[string]int{"fragments of 300 KiB": 300 << 10, "fragments of 1 MiB": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			message := random(opText, 4<<20)
			var sent, pongs []frame
			for _, f := range fragments(opText, message, size) {
				sent = append(sent, f)
				if f.more {
					sent, pongs = append(sent, ping("are you there?")), append(pongs, pong("are you there?"))
				}
			}
			p := s.upgrade(t)
			p.sendAsync(whole, sent...)
			p.wantMessage(opText, message, pongs...)
			p.wantSent()
			p.closes()
		})
	}
}

func TestMaxMessage(t *testing.T) {
	const limit = 1000
	at, over := strings.Repeat("*", limit), strings.Repeat("*", limit+1)
	runCases(t, start(t, "-max-message", "1000"), []testCase{
		{"at the limit", func(p *peer) {
			for range 3 { // the limit is per message, not per connection
				p.send(text(at))
				p.want(text(at))
			}
			p.closes()
		}},
		{"one more", func(p *peer) {
			p.send(text(over))
			p.wantFail(1009)
		}},
		{"announced and never sent", func(p *peer) {
			p.sendRaw(bin(nil).header(1<<40, []byte("mask")))
			p.wantFail(1009)
		}},
		{"in fragments, at the limit", func(p *peer) {
			sent := fragments(opBinary, []byte(at), 100)
			p.send(sent...)
			p.want(sent...)
			p.closes()
		}},
		{"in fragments, one more", func(p *peer) {
			sent := fragments(opBinary, []byte(over), 100)
			p.send(sent...)
			p.want(sent[:len(sent)-1]...)
			p.wantFail(1009)
		}},
		{"control frames do not count", func(p *peer) {
			first, last := unfinished(text(at[:600])), continuation(at[600:])
			p.send(first, ping(at[:125]), last)
			p.want(first, pong(at[:125]), last)
			p.closes()
		}},
	})
}
