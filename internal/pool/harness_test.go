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

// soon is the timeout of everything that a test waits for.
const soon = 10 * time.Second

// A harness is a pool whose workers do not run by themselves. The test runs them pass by pass in
// its own goroutine, and moves their clock. At the end of the test the harness checks that nothing
// is left in the pool: see wantsNothingLeft.
type harness struct {
	*Pool
	t       testing.TB
	time    tick
	peers   []*peer
	running bool // the workers run in their own goroutines: see starts
	adopted int
	closed  bool
}

// newHarness returns a harness that listens on TCP, with one worker unless changes say otherwise.
func newHarness(t testing.TB, changes ...func(*Config)) *harness {
	t.Helper()
	return newHarnessAt(t, []string{"127.0.0.1:0"}, changes...)
}

// newHarnessAt returns a harness that listens on addrs.
func newHarnessAt(t testing.TB, addrs []string, changes ...func(*Config)) *harness {
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
		avoidTimers(l.FD)
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

// starts runs the workers in their own goroutines.
func (h *harness) starts() *harness {
	h.clock = now
	h.running = true
	h.Start()
	return h
}

// avoidTimers disables two features of a TCP socket, and of those that it accepts, that make it
// wait for timers: congestion control with pacing, and loopback's segments of 64 KiB, which do not
// fit a smaller window. It has no effect on a unix socket.
func avoidTimers(fd int) {
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1448)
}

// closes closes all peers and the pool, and checks that nothing is left.
func (h *harness) closes() {
	h.t.Helper()
	if h.closed {
		return
	}
	h.closed = true
	if h.running {
		h.closesPeers()
		h.Shutdown(soon)
	} else if !h.t.Failed() {
		h.closesPeers()
		h.until("all connections have ended", func() bool {
			h.time += sweepEvery
			return h.conns() == 0
		})
		for _, w := range h.workers {
			w.acceptor.ignore()
		}
	}
	h.closesPeers()
	if !h.t.Failed() {
		h.wantsNothingLeft()
	}
	h.Close()
}

// closesPeers closes all peers' sockets.
func (h *harness) closesPeers() {
	for _, p := range h.peers {
		p.closes()
	}
}

// wantsNothingLeft checks that the pool holds nothing for connections that have ended, and that its
// counters add up.
func (h *harness) wantsNothingLeft() {
	h.t.Helper()
	spares := 0
	var c Counters
	c.init()
	for i, w := range h.workers {
		w.conns.mine.each(func(fd int) { h.t.Errorf("worker %d still has descriptor %d", i, fd) })
		w.conns.deadlines.set.each(func(fd int) { h.t.Errorf("worker %d still has a deadline for descriptor %d", i, fd) })
		if w.conns.store.backlog != (backlog{}) || len(w.conns.observer.peers) != 0 {
			h.t.Errorf("worker %d has a backlog of %+v and the addresses of %d peers, want none", i, w.conns.store.backlog, len(w.conns.observer.peers))
		}
		if w.conns.deadlines.n != 0 || w.conns.surplus != 0 || w.conns.store.spareOwner != nil || w.conns.load.Load() != 0 {
			h.t.Errorf("worker %d has %d deadlines, %d surplus connections, spare block held: %v, %d connections; want none",
				i, w.conns.deadlines.n, w.conns.surplus, w.conns.store.spareOwner != nil, w.conns.load.Load())
		}
		spares += len(h.arena.Bytes(w.conns.store.spare))
		c.add(&w.conns.count)
	}
	if h.arena.Used() != spares {
		h.t.Errorf("%d bytes are held without a connection", h.arena.Used()-spares)
	}
	if h.Open() != 0 {
		h.t.Errorf("%d connections are open, want 0", h.Open())
	}
	var ended uint64
	for _, n := range c.Ended {
		ended += n
	}
	if in, out := c.Accepted+uint64(h.adopted), ended+c.RefusedAtOnce; in != out {
		h.t.Errorf("%d connections began and %d ended", in, out)
	}
	for i := range h.slots {
		if s := &h.slots[i]; *s != (slot{gen: s.gen}) {
			h.t.Errorf("slot %d is %+v, want it cleared", i, *s)
		}
	}
}

// pass runs one pass of every worker, and checks invariants.
func (h *harness) pass() {
	if h.running {
		runtime.Gosched()
		return
	}
	for i, w := range h.workers {
		if err := w.pass(0); err != nil {
			h.t.Fatalf("worker %d: %v", i, err)
		}
		if counted, is := w.conns.store.backlog, w.recountBacklogs(); counted != is {
			h.t.Fatalf("worker %d has counted a backlog of %+v, want %+v", i, counted, is)
		}
		for fd := range w.conns.mine.all() {
			if c := w.conns.at(fd); c.is(inUse) && (c.activity != activityOf(c.slot, w.conns.store.hasUnsent(c.slot)) || c.activity == finished) {
				h.t.Fatalf("descriptor %d: activity %q, but update has set %q", fd,
					activities[activityOf(c.slot, w.conns.store.hasUnsent(c.slot))].name, activities[c.activity].name)
			}
		}
		if used := h.arena.Used(); used > h.arena.Size() {
			h.t.Fatalf("%d bytes are held, want at most %d", used, h.arena.Size())
		}
	}
}

// until runs the workers until cond holds; why describes cond.
func (h *harness) until(why string, cond func() bool) {
	h.t.Helper()
	for end := time.Now().Add(soon); !cond(); h.pass() {
		if time.Now().After(end) {
			h.t.Fatalf("timed out waiting for: %s", why)
		}
	}
}

// runsUntilIdle runs the workers until they have nothing to do.
func (h *harness) runsUntilIdle() {
	h.t.Helper()
	quiet := 0
	h.until("the workers are idle", func() bool {
		before := h.events()
		h.pass()
		if quiet++; h.events() != before || h.busy() {
			quiet = 0
		}
		return quiet == 3
	})
}

// events returns the number of events that the workers have handled.
func (h *harness) events() (n uint64) {
	for _, w := range h.workers {
		n += w.conns.count.Events
	}
	return n
}

// busy reports whether a worker has connections in its queue.
func (h *harness) busy() bool {
	for _, w := range h.workers {
		if len(w.conns.queue) > 0 {
			return true
		}
	}
	return false
}

// advances runs the workers until they are idle, then advances their clock by d and runs one pass.
func (h *harness) advances(d time.Duration) {
	h.t.Helper()
	h.runsUntilIdle()
	h.time += ticks(d)
	h.pass()
}

// conns returns the number of connections of all workers.
func (h *harness) conns() (n int64) {
	for _, w := range h.workers {
		n += w.conns.load.Load()
	}
	return n
}

// count returns the sum of the workers' counters.
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

// wantsCount checks one counter, which what describes.
func (h *harness) wantsCount(what string, got, want uint64) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

// wantsEnded checks how many connections have ended, by reason.
func (h *harness) wantsEnded(want map[Reason]uint64) {
	h.t.Helper()
	for reason, n := range h.count().Ended {
		if n != want[Reason(reason)] {
			h.t.Errorf("%d connections have ended with reason %q, want %d", n, Reason(reason), want[Reason(reason)])
		}
	}
}

// held returns the number of bytes that connections hold, including spare blocks.
func (h *harness) held() int {
	used := h.arena.Used()
	for _, w := range h.workers {
		if w.conns.store.spareOwner == nil {
			used -= h.cfg.BufferSize
		}
	}
	return used
}

// slot returns the slot and the descriptor of the peer's connection in the pool.
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

// A peer is the other end of a connection: a socket, and the bytes that it has received.
type peer struct {
	h    *harness
	fd   int    // -1: closed
	got  []byte // received, and not taken yet
	end  error  // error of the last read
	sent uint64 // bytes
}

// dials connects to the first listener.
func (h *harness) dials() *peer { h.t.Helper(); return h.dialsAt(0) }

// dialsAt connects to the listener with the given index.
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
	avoidTimers(fd)
	h.limits(fd, unix.SO_SNDBUF, 1<<20) // enough for what tests send at once
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

// adopts passes a connection to the pool, with bytes that have already been read from it.
func (h *harness) adopts(proto echo.State, read []byte) *peer {
	h.t.Helper()
	p, fd := h.socketPair()
	if err := h.Adopt(fd, netip.AddrPort{}, proto, read, noGreeting); err != nil {
		h.t.Fatal("adopt:", err)
	}
	h.adopted++
	return p
}

// socketPair returns a connection that the pool does not own: a peer, and the descriptor of the
// other end.
func (h *harness) socketPair() (*peer, int) {
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

// upgrades completes the opening handshake.
func (p *peer) upgrades() *peer {
	p.h.t.Helper()
	p.sends([]byte(request))
	p.wantsUpgrade()
	return p
}

// wantsUpgrade waits for a response with status 101.
func (p *peer) wantsUpgrade() {
	p.h.t.Helper()
	if head := p.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, accepted) {
		p.h.t.Fatalf("the response to the handshake is %q, want status 101", head)
	}
}

// head waits for the head of an HTTP response.
func (p *peer) head() string {
	p.h.t.Helper()
	end := -1
	p.until("head of a response", func() bool {
		end = bytes.Index(p.got, []byte("\r\n\r\n"))
		return end >= 0
	})
	return string(p.takes(end + 4))
}

// sends sends all pieces. The kernel must have room for them.
func (p *peer) sends(pieces ...[]byte) {
	p.h.t.Helper()
	if remaining := p.sendsSome(bytes.Join(pieces, nil)); len(remaining) > 0 {
		p.h.t.Fatalf("the kernel has no room for %d bytes", len(remaining))
	}
}

// waitsForDelivery waits until the other end's kernel has received everything that was sent. No
// worker runs meanwhile.
func (p *peer) waitsForDelivery() {
	p.h.t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); runtime.Gosched() {
		if left, err := unix.IoctlGetInt(p.fd, unix.TIOCOUTQ); err != nil || left == 0 {
			return
		}
	}
	p.h.t.Fatal("timed out waiting for the other kernel to receive what was sent")
}

// sendsSome sends as much as the kernel takes, and returns the remaining bytes.
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

// sendsUntilBlocked sends without reading until neither the kernel nor the workers take any more.
// It returns the remaining bytes, of which there must be some.
func (p *peer) sendsUntilBlocked(all []byte) []byte {
	p.h.t.Helper()
	for refused := 0; refused < 3; refused++ {
		remaining := p.sendsSome(all)
		p.h.runsUntilIdle()
		if len(remaining) < len(all) {
			refused = 0
		}
		if all = remaining; len(remaining) == 0 {
			p.h.t.Fatal("everything was sent although the peer has not read its echo, want a write backlog")
		}
	}
	return all
}

// reads reads all bytes that have arrived.
func (p *peer) reads() {
	for p.end == nil && p.readsSome() > 0 {
	}
}

// readsSome reads once, and returns the number of bytes.
func (p *peer) readsSome() int {
	var buffer [64 << 10]byte
	n, err := netpoll.Recv(p.fd, buffer[:])
	p.got = append(p.got, buffer[:n]...)
	p.end = err
	return n
}

// until reads, and runs the workers, until cond holds; why describes what the test expects.
func (p *peer) until(why string, cond func() bool) {
	p.h.t.Helper()
	for end := time.Now().Add(soon); ; p.h.pass() {
		p.reads()
		if cond() {
			return
		}
		if p.end != nil || time.Now().After(end) {
			p.h.t.Fatalf("%s: not received, got %d bytes %.200q, then error %v", why, len(p.got), p.got, p.end)
		}
	}
}

// takes removes and returns the first n of the received bytes.
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
		p.h.t.Fatalf("%s: byte %d of %d differs: got %.60q, want %.60q", why, i, len(want), got[i:], want[i:])
	}
}

// wantsEcho waits for the echo of frames.
func (p *peer) wantsEcho(why string, frames ...ws.Frame) {
	p.h.t.Helper()
	p.wants(why, echoed(frames...))
}

// wantsMessage waits for a message, in any number of fragments, with any number of pongs between
// them.
func (p *peer) wantsMessage(why string, op ws.OpCode, want []byte) {
	p.h.t.Helper()
	var got []byte
	for first := true; ; {
		f := p.frame(why)
		if f.Header.OpCode == ws.OpPong {
			continue
		}
		if expected := map[bool]ws.OpCode{true: op, false: ws.OpContinuation}[first]; f.Header.OpCode != expected {
			p.h.t.Fatalf("%s: got a frame with opcode %x, want %x", why, f.Header.OpCode, expected)
		}
		first = false
		got = append(got, f.Payload...)
		if f.Header.Fin {
			break
		}
	}
	if !bytes.Equal(got, want) {
		p.h.t.Fatalf("%s: got a message of %d bytes %.60q, want %d bytes %.60q", why, len(got), got, len(want), want)
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
		p.h.t.Fatalf("%s: got a frame with opcode %x %.60q, want a close frame", why, f.Header.OpCode, f.Payload)
	}
	if got, reason := ws.ParseCloseFrameData(f.Payload); got != code {
		p.h.t.Fatalf("%s: got close code %d (%s), want %d", why, got, reason, code)
	}
}

// wantsStatus waits for an HTTP refusal and the server's FIN.
func (p *peer) wantsStatus(why string, status int) {
	p.h.t.Helper()
	head := p.head()
	if !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", status)) {
		p.h.t.Fatalf("%s: got %q, want status %d", why, head, status)
	}
	if status == http.StatusServiceUnavailable && !strings.Contains(head, "\r\nRetry-After: ") {
		p.h.t.Fatalf("%s: no Retry-After in %q", why, head)
	}
	p.until(why, func() bool { return bytes.HasSuffix(p.got, []byte("\n")) })
	p.takes(len(p.got))
	p.wantsFIN(why)
}

// wantsFIN waits for the server's FIN, and nothing before it.
func (p *peer) wantsFIN(why string) {
	p.h.t.Helper()
	for end := time.Now().Add(soon); p.end == nil && time.Now().Before(end); p.h.pass() {
		p.reads()
	}
	if p.end != io.EOF || len(p.got) > 0 {
		p.h.t.Fatalf("%s: got %.60q, then error %v, want FIN", why, p.got, p.end)
	}
}

// wantsNothing runs the workers until they are idle, and checks that they have sent nothing.
func (p *peer) wantsNothing(why string) {
	p.h.t.Helper()
	p.h.runsUntilIdle()
	p.reads()
	if len(p.got) > 0 || p.end != nil {
		p.h.t.Fatalf("%s: got %.60q, then error %v, want nothing", why, p.got, p.end)
	}
}

// wantsAlive checks that the server echoes a message; why describes the situation.
func (p *peer) wantsAlive(why string) {
	p.h.t.Helper()
	f := text("are you there?")
	p.sends(masked(f))
	p.wantsEcho(why, f)
}

// ends sends FIN.
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

// resets sends a reset, and closes the peer's socket.
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

// binary returns a binary message of n bytes, which depend on seed.
func binary(seed, n int) ws.Frame {
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(seed + i*7 + i>>8)
	}
	return ws.NewBinaryFrame(payload)
}

// masked returns the frames as a client sends them.
func masked(frames ...ws.Frame) []byte {
	var all []byte
	for _, f := range frames {
		all = append(all, ws.MustCompileFrame(ws.MaskFrameWith(f, [4]byte{0x37, 0xfa, 0x21, 0x3d}))...)
	}
	return all
}

// echoed returns the frames as the server sends them back.
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

// messages returns many binary messages of the given size.
func messages(many, size int) []ws.Frame {
	frames := make([]ws.Frame, many)
	for i := range frames {
		frames[i] = binary(i, size)
	}
	return frames
}

// noGreeting is a greet function for Adopt that sends nothing.
func noGreeting() error { return nil }

// each calls f for every member.
func (s fdSet) each(f func(fd int)) {
	for fd := range s.all() {
		f(fd)
	}
}
