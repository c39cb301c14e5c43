package pool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// soon is longer than anything here takes that happens at all.
const soon = 10 * time.Second

// harness is a pool whose workers do not run by themselves. The test lets them,
// pass by pass on its own goroutine, and moves their clock. At the end of the test it sees
// to it that the books balance.
type harness struct {
	*Pool
	t       testing.TB
	time    tick
	peers   []*peer
	running bool // after all: see starts
	adopted int
	closed  bool
}

// opens makes a harness with one worker, unless it is told otherwise.
func opens(t testing.TB, changes ...func(*Config)) *harness {
	t.Helper()
	return opensAt(t, []string{"127.0.0.1:0"}, changes...)
}

func opensAt(t testing.TB, addrs []string, changes ...func(*Config)) *harness {
	t.Helper()
	cfg := Config{
		Workers: 1, MaxConns: 1000, MaxFDs: 4096,
		BufferSize: 64 << 10, BufferBudget: 16 << 20,
		HandshakeTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		CloseTimeout: 5 * time.Second, LingerTimeout: 2 * time.Second,
		Echo: echo.Config{MaxHeader: 8 << 10, AnySubprotocol: true, AnyOrigin: true, Now: func() time.Time { return time.Unix(0, 0) }},
		Log:  slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, change := range changes {
		change(&cfg)
	}
	var listeners []netpoll.Listener
	for _, addr := range addrs {
		l, err := netpoll.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		untimed(l.FD)
		listeners = append(listeners, l)
	}
	p, err := New(cfg, listeners)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{Pool: p, t: t, time: 1000}
	p.clock = func() tick { return h.time }
	t.Cleanup(h.closes)
	return h
}

// starts lets the workers run by themselves.
func (h *harness) starts() *harness {
	h.clock = now
	h.running = true
	h.Start()
	return h
}

// untimed takes from a TCP socket, and from what it accepts, two things that make it wait
// for timers: congestion control that paces, and loopback's segments of 64 KiB, which do not fit
// a window of less. (On a unix socket it has no effect.)
func untimed(fd int) {
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1448)
}

// closes ends the harness, and looks at its books.
func (h *harness) closes() {
	h.t.Helper()
	if h.closed {
		return
	}
	h.closed = true
	if h.running {
		h.hangUp()
		h.Shutdown(soon)
	} else if !h.t.Failed() {
		h.hangUp()
		h.until("everybody has left", func() bool {
			h.time += sweepEvery
			return h.conns() == 0
		})
		for _, w := range h.workers {
			w.acceptor.ignore()
		}
	}
	h.hangUp()
	if !h.t.Failed() {
		h.balances()
	}
	h.Close()
}

func (h *harness) hangUp() {
	for _, p := range h.peers {
		p.closes()
	}
}

// balances checks that of connections that have all ended nothing is left.
func (h *harness) balances() {
	h.t.Helper()
	spares := 0
	var c Counters
	c.init()
	for i, w := range h.workers {
		w.conns.mine.each(func(fd int) { h.t.Errorf("worker %d still has descriptor %d", i, fd) })
		w.conns.deadlines.set.each(func(fd int) { h.t.Errorf("worker %d still watches the time of descriptor %d", i, fd) })
		if w.conns.store.backlog != (backlog{}) || len(w.conns.observer.peers) != 0 {
			h.t.Errorf("worker %d counts a backlog of %+v, and knows %d peers", i, w.conns.store.backlog, len(w.conns.observer.peers))
		}
		if w.conns.deadlines.n != 0 || w.conns.surplus != 0 || w.conns.store.spareOwner != nil || w.conns.load.Load() != 0 {
			h.t.Errorf("worker %d: %d timed, %d spares, spare block taken: %v, %d connections",
				i, w.conns.deadlines.n, w.conns.surplus, w.conns.store.spareOwner != nil, w.conns.load.Load())
		}
		spares += len(h.arena.Bytes(w.conns.store.spare))
		c.add(&w.conns.count)
	}
	if h.arena.Used() != spares {
		h.t.Errorf("%d bytes are held for nobody", h.arena.Used()-spares)
	}
	if h.Open() != 0 {
		h.t.Errorf("%d connections are open", h.Open())
	}
	var ended uint64
	for _, n := range c.Ended {
		ended += n
	}
	if in, out := c.Accepted+uint64(h.adopted), ended+c.RefusedAtOnce; in != out {
		h.t.Errorf("%d connections have come and %d gone", in, out)
	}
	for i := range h.slots {
		if s := &h.slots[i]; *s != (slot{gen: s.gen}) {
			h.t.Errorf("slot %d is %+v", i, *s)
		}
	}
}

// pass lets every worker have one pass.
func (h *harness) pass() {
	if h.running {
		runtime.Gosched()
		return
	}
	for i, w := range h.workers {
		if err := w.pass(0); err != nil {
			h.t.Fatalf("worker %d: %v", i, err)
		}
		if counted, is := w.conns.store.backlog, w.looksForBacklogs(); counted != is {
			h.t.Fatalf("worker %d counts a backlog of %+v, and has %+v", i, counted, is)
		}
		for fd := range w.conns.mine.all() {
			if c := w.conns.at(fd); c.is(inUse) && (c.activity != activityOf(c.slot, w.conns.store.hasUnsent(c.slot)) || c.activity == finished) {
				h.t.Fatalf("descriptor %d is %q, and was last updated to %q", fd,
					activities[activityOf(c.slot, w.conns.store.hasUnsent(c.slot))].name, activities[c.activity].name)
			}
		}
		if used := h.arena.Used(); used > h.arena.Size() {
			h.t.Fatalf("%d bytes are held of %d", used, h.arena.Size())
		}
	}
}

// until lets the workers work until cond holds.
func (h *harness) until(why string, cond func() bool) {
	h.t.Helper()
	for end := time.Now().Add(soon); !cond(); h.pass() {
		if time.Now().After(end) {
			h.t.Fatalf("waited for: %s", why)
		}
	}
}

// settles lets the workers work until there is nothing to do.
func (h *harness) settles() {
	h.t.Helper()
	quiet := 0
	h.until("nothing happens any more", func() bool {
		before := h.events()
		h.pass()
		if quiet++; h.events() != before || h.busy() {
			quiet = 0
		}
		return quiet == 3
	})
}

func (h *harness) events() (n uint64) {
	for _, w := range h.workers {
		n += w.conns.count.Events
	}
	return n
}

// busy says whether a worker has something to go on with, or a peer's bytes
// are still on their way.
func (h *harness) busy() bool {
	for _, w := range h.workers {
		if len(w.conns.queue) > 0 {
			return true
		}
	}
	return false
}

// later moves the clock by d and lets the workers notice.
func (h *harness) later(d time.Duration) {
	h.t.Helper()
	h.settles()
	h.time += ticks(d)
	h.pass()
}

func (h *harness) conns() (n int64) {
	for _, w := range h.workers {
		n += w.conns.load.Load()
	}
	return n
}

// count adds up the workers' counters.
func (h *harness) count() Counters {
	if h.running {
		s, err := h.Snapshot(context.Background())
		if err != nil {
			h.t.Fatal(err)
		}
		return s.Counters
	}
	var sum Counters
	sum.init()
	for _, w := range h.workers {
		c := w.conns.counters()
		sum.add(&c)
	}
	return sum
}

// wantsCount checks one counter.
func (h *harness) wantsCount(what string, got, want uint64) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// wantsEnded checks how many connections have ended, and why.
func (h *harness) wantsEnded(want map[Reason]uint64) {
	h.t.Helper()
	for reason, n := range h.count().Ended {
		if n != want[Reason(reason)] {
			h.t.Errorf("%d connections have ended as %q, want %d", n, Reason(reason), want[Reason(reason)])
		}
	}
}

// held is how many bytes are held for connections.
func (h *harness) held() int {
	used := h.arena.Used()
	for _, w := range h.workers {
		if w.conns.store.spareOwner == nil {
			used -= h.cfg.BufferSize
		}
	}
	return used
}

// slotOf is the slot at our end of a peer's connection, and its descriptor.
func (p *peer) slot() (*slot, int) {
	p.h.t.Helper()
	name, err := unix.Getsockname(p.fd)
	if err != nil {
		p.h.t.Fatal(err)
	}
	for _, w := range p.h.workers {
		found := -1
		w.conns.mine.each(func(fd int) {
			if far, err := unix.Getpeername(fd); err == nil && fmt.Sprint(far) == fmt.Sprint(name) {
				found = fd
			}
		})
		if found >= 0 {
			return &p.h.slots[found], found
		}
	}
	p.h.t.Fatal("no worker has the connection")
	return nil, -1
}

// peer is the other end of a connection: a socket and what has arrived at it.
type peer struct {
	h    *harness
	fd   int // -1: closed
	got  []byte
	end  error // of reading
	sent uint64
}

// dials connects.
func (h *harness) dials() *peer { h.t.Helper(); return h.dialsAt(0) }

// dialsAt connects to one of several listeners.
func (h *harness) dialsAt(listener int) *peer {
	h.t.Helper()
	where, err := unix.Getsockname(h.listeners[listener].FD)
	if err != nil {
		h.t.Fatal(err)
	}
	family := unix.AF_INET
	switch where.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	untimed(fd)
	h.limits(fd, unix.SO_SNDBUF, 1<<20) // sends has room for what tests send at once
	if err := unix.Connect(fd, where); err != nil {
		h.t.Fatal("connect:", err)
	}
	if err := netpoll.Prepare(fd); err != nil {
		h.t.Fatal(err)
	}
	p := &peer{h: h, fd: fd}
	h.peers = append(h.peers, p)
	return p
}

// adopts hands a connection to the pool, with what has been read from it.
func (h *harness) adopts(proto echo.State, read []byte) *peer {
	h.t.Helper()
	p, fd := h.stranger()
	if err := h.Adopt(fd, netip.AddrPort{}, proto, read, noGreeting); err != nil {
		h.t.Fatal("adopt:", err)
	}
	h.adopted++
	return p
}

// stranger is a connection that is not the pool's: a peer, and the other end.
func (h *harness) stranger() (*peer, int) {
	h.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	p := &peer{h: h, fd: pair[0]}
	h.peers = append(h.peers, p)
	return p, pair[1]
}

const (
	request = "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	accepted = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)

// connects connects and completes the opening handshake.
func (h *harness) connects() *peer { h.t.Helper(); return h.dials().upgrades() }

func (p *peer) upgrades() *peer {
	p.h.t.Helper()
	p.sends([]byte(request))
	p.wantsUpgrade()
	return p
}

func (p *peer) wantsUpgrade() {
	p.h.t.Helper()
	if head := p.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, accepted) {
		p.h.t.Fatalf("the answer to the handshake is %q", head)
	}
}

// head waits for the head of an HTTP response.
func (p *peer) head() string {
	p.h.t.Helper()
	end := -1
	p.until("the head of a response", func() bool {
		end = bytes.Index(p.got, []byte("\r\n\r\n"))
		return end >= 0
	})
	return string(p.takes(end + 4))
}

// sends sends all of it. The kernel must have room.
func (p *peer) sends(pieces ...[]byte) {
	p.h.t.Helper()
	if rest := p.sendsSome(bytes.Join(pieces, nil)); len(rest) > 0 {
		p.h.t.Fatalf("the kernel has no room for %d bytes", len(rest))
	}
}

// arrives waits until the kernel at the other end has what was sent, while no worker
// does anything.
func (p *peer) arrives() {
	p.h.t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); runtime.Gosched() {
		if left, err := unix.IoctlGetInt(p.fd, unix.TIOCOUTQ); err != nil || left == 0 {
			return
		}
	}
	p.h.t.Fatal("what was sent does not arrive")
}

// sendsSome sends as much as the kernel takes, and says what is left.
func (p *peer) sendsSome(all []byte) []byte {
	p.h.t.Helper()
	if len(all) == 0 {
		return nil
	}
	n, err := netpoll.Send(p.fd, all)
	if err != nil {
		p.h.t.Fatal("send:", err)
	}
	p.sent += uint64(n)
	return all[n:]
}

// stuffs sends without reading until neither the kernel nor the workers take
// any more, and says what is left. It must not be all.
func (p *peer) stuffs(all []byte) []byte {
	p.h.t.Helper()
	for refused := 0; refused < 3; refused++ {
		rest := p.sendsSome(all)
		p.h.settles()
		if len(rest) < len(all) {
			refused = 0
		}
		if all = rest; len(rest) == 0 {
			p.h.t.Fatal("everything was taken although nothing was read")
		}
	}
	return all
}

// reads reads what is there.
func (p *peer) reads() {
	for p.end == nil && p.sips() > 0 {
	}
}

// sips reads some of what is there, and says how much.
func (p *peer) sips() int {
	var buffer [64 << 10]byte
	n, err := netpoll.Recv(p.fd, buffer[:])
	p.got = append(p.got, buffer[:n]...)
	p.end = err
	return n
}

// until reads, while the workers work, until cond holds.
func (p *peer) until(why string, cond func() bool) {
	p.h.t.Helper()
	for end := time.Now().Add(soon); ; p.h.pass() {
		p.reads()
		if cond() {
			return
		}
		if p.end != nil || time.Now().After(end) {
			p.h.t.Fatalf("waited for: %s; got %d bytes %.200q, then %v", why, len(p.got), p.got, p.end)
		}
	}
}

// takes takes n of the bytes that have been read.
func (p *peer) takes(n int) []byte {
	taken := p.got[:n]
	p.got = p.got[n:]
	return taken
}

// wants waits for exactly these bytes.
func (p *peer) wants(why string, want []byte) {
	p.h.t.Helper()
	p.until(why, func() bool { return len(p.got) >= len(want) })
	if got := p.takes(len(want)); !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		p.h.t.Fatalf("%s: byte %d of %d is otherwise: %.60q, want %.60q", why, i, len(want), got[i:], want[i:])
	}
}

// wantsEcho waits for the frames' echo.
func (p *peer) wantsEcho(why string, frames ...ws.Frame) {
	p.h.t.Helper()
	p.wants(why, echoed(frames...))
}

// wantsMessage waits for a message in whatever fragments, and control frames
// that are pongs between.
func (p *peer) wantsMessage(why string, op ws.OpCode, want []byte) {
	p.h.t.Helper()
	var got []byte
	for first := true; ; {
		f := p.frame(why)
		if f.Header.OpCode == ws.OpPong {
			continue
		}
		if expected := map[bool]ws.OpCode{true: op, false: ws.OpContinuation}[first]; f.Header.OpCode != expected {
			p.h.t.Fatalf("%s: a frame with opcode %x, want %x", why, f.Header.OpCode, expected)
		}
		first = false
		got = append(got, f.Payload...)
		if f.Header.Fin {
			break
		}
	}
	if !bytes.Equal(got, want) {
		p.h.t.Fatalf("%s: a message of %d bytes %.60q, want %d %.60q", why, len(got), got, len(want), want)
	}
}

// frame waits for a frame.
func (p *peer) frame(why string) (f ws.Frame) {
	p.h.t.Helper()
	p.until(why, func() bool {
		r := bytes.NewReader(p.got)
		var err error
		f.Header, err = ws.ReadHeader(r)
		if err != nil || int64(r.Len()) < f.Header.Length {
			return false
		}
		p.takes(len(p.got) - r.Len())
		f.Payload = p.takes(int(f.Header.Length))
		return true
	})
	return f
}

// wantsClose waits for a close frame.
func (p *peer) wantsClose(why string, code ws.StatusCode) {
	p.h.t.Helper()
	f := p.frame(why)
	if f.Header.OpCode != ws.OpClose {
		p.h.t.Fatalf("%s: a frame with opcode %x %.60q, want a close", why, f.Header.OpCode, f.Payload)
	}
	if got, reason := ws.ParseCloseFrameData(f.Payload); got != code {
		p.h.t.Fatalf("%s: close code %d (%s), want %d", why, got, reason, code)
	}
}

// wantsStatus waits for an HTTP refusal, all of it, and our end.
func (p *peer) wantsStatus(why string, status int) {
	p.h.t.Helper()
	head := p.head()
	if !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", status)) {
		p.h.t.Fatalf("%s: %q, want status %d", why, head, status)
	}
	if status == http.StatusServiceUnavailable && !strings.Contains(head, "\r\nRetry-After: ") {
		p.h.t.Fatalf("%s: no Retry-After in %q", why, head)
	}
	p.until(why, func() bool { return bytes.HasSuffix(p.got, []byte("\n")) })
	p.takes(len(p.got))
	p.wantsFIN(why)
}

// wantsFIN waits for the end of what we are sent.
func (p *peer) wantsFIN(why string) {
	p.h.t.Helper()
	for end := time.Now().Add(soon); p.end == nil && time.Now().Before(end); p.h.pass() {
		p.reads()
	}
	if p.end != io.EOF || len(p.got) > 0 {
		p.h.t.Fatalf("%s: got %.60q, then %v, want the end", why, p.got, p.end)
	}
}

// wantsNothing lets the workers work until nothing happens any more, and then nothing
// must have been sent.
func (p *peer) wantsNothing(why string) {
	p.h.t.Helper()
	p.h.settles()
	p.reads()
	if len(p.got) > 0 || p.end != nil {
		p.h.t.Fatalf("%s: got %.60q, then %v, want nothing", why, p.got, p.end)
	}
}

// alive shows that the connection echoes.
func (p *peer) alive(why string) {
	p.h.t.Helper()
	f := text("are you there?")
	p.sends(masked(f))
	p.wantsEcho(why, f)
}

// ends ends the peer's side of TCP.
func (p *peer) ends() {
	p.h.t.Helper()
	if err := netpoll.ShutdownWrite(p.fd); err != nil {
		p.h.t.Fatal("shutdown:", err)
	}
}

// closes closes the peer's socket.
func (p *peer) closes() {
	if p.fd >= 0 {
		netpoll.Close(p.fd)
		p.fd = -1
	}
}

// resets breaks the connection.
func (p *peer) resets() {
	p.h.t.Helper()
	if err := unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		p.h.t.Fatal(err)
	}
	p.closes()
}

func text(s string) ws.Frame { return ws.NewTextFrame([]byte(s)) }
func ping(s string) ws.Frame { return ws.NewPingFrame([]byte(s)) }
func closing(code ws.StatusCode) ws.Frame {
	return ws.NewCloseFrame(ws.NewCloseFrameBody(code, "bye"))
}

// binary is a message of n bytes that differ from one seed to the next.
func binary(seed, n int) ws.Frame {
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(seed + i*7 + i>>8)
	}
	return ws.NewBinaryFrame(payload)
}

// masked is the frames as a client sends them.
func masked(frames ...ws.Frame) []byte {
	var all []byte
	for _, f := range frames {
		all = append(all, ws.MustCompileFrame(ws.MaskFrameWith(f, [4]byte{0x37, 0xfa, 0x21, 0x3d}))...)
	}
	return all
}

// echoed is the frames as the server sends them back.
func echoed(frames ...ws.Frame) []byte {
	var all []byte
	for _, f := range frames {
		if f.Header.OpCode == ws.OpPing {
			f = ws.NewPongFrame(f.Payload)
		}
		all = append(all, ws.MustCompileFrame(f)...)
	}
	return all
}

// messages are many binary messages of a size.
func messages(many, size int) []ws.Frame {
	frames := make([]ws.Frame, many)
	for i := range frames {
		frames[i] = binary(i, size)
	}
	return frames
}

// noGreeting is for connections whose peers need not be told that they are adopted.
func noGreeting() error { return nil }

// each calls f with every member.
func (s fdSet) each(f func(fd int)) {
	for fd := range s.all() {
		f(fd)
	}
}
