package pool

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"golang.org/x/sys/unix"
)

func (h *house) lists(by Order, limit int) []Conn {
	h.t.Helper()
	return asks(h, func(ctx context.Context) ([]Conn, error) { return h.List(ctx, by, limit) })
}

// port is the port of a peer, by which lists are told apart here.
func (p *peer) port() uint16 {
	p.h.t.Helper()
	name, err := unix.Getsockname(p.fd)
	if err != nil {
		p.h.t.Fatal(err)
	}
	return uint16(name.(*unix.SockaddrInet4).Port)
}

func (h *house) wantsList(by Order, limit int, want ...*peer) []Conn {
	h.t.Helper()
	list := h.lists(by, limit)
	ports := []uint16{}
	for _, c := range list {
		if c.Peer.Addr() != netip.MustParseAddr("127.0.0.1") {
			h.t.Errorf("peer %v", c.Peer)
		}
		ports = append(ports, c.Peer.Port())
	}
	wanted := []uint16{}
	for _, p := range want {
		wanted = append(wanted, p.port())
	}
	if !slices.Equal(ports, wanted) {
		h.t.Errorf("by %v: %v, want %v", by, ports, wanted)
	}
	return list
}

func TestList(t *testing.T) {
	h := opens(t, workers(2))
	var peers []*peer
	for range 5 {
		peers = append(peers, h.connects())
		h.later(time.Second)
	}
	a, b, c, d, e := peers[0], peers[1], peers[2], peers[3], peers[4]
	h.wantsList(ByAge, 10, a, b, c, d, e)
	h.wantsList(ByAge, 2, a, b)

	b.sends(masked(messages(1, 9000)...))
	b.wantsEcho("of much", messages(1, 9000)...)
	h.later(time.Second)
	a.sends(masked(messages(1, 1000)...))
	a.wantsEcho("of less", messages(1, 1000)...)
	h.later(time.Second)
	list := h.wantsList(ByBytes, 2, b, a)
	sent := uint64(len(request) + len(masked(messages(1, 9000)...)))
	if got := list[0]; got.Received != sent || got.Sent < 9000 || got.State != "open" || got.Unsent+got.Rest+got.Held != 0 {
		t.Errorf("it has sent %d bytes and been sent 9000 and some: %+v", sent, got)
	}
	list = h.wantsList(ByIdle, 10, c, d, e, b, a)
	if idle, age := list[4].Idle, list[4].Age; idle < time.Second || idle > time.Second+2*late || age < 7*time.Second || age > 7*time.Second+20*late {
		t.Errorf("idle for %v, want 1s; there for %v, want 7s", idle, age)
	}
	h.wantsList(ByIdle, 0)
}

// What a connection waits for, and what is held for it.
func TestListStates(t *testing.T) {
	h := opens(t)
	silent, unfinished, left := h.dials(), h.connects(), h.connects()
	unfinished.sends(masked(text("half"))[:7])
	left.sends(masked(closing(1000)))
	left.wantsClose("goodbye", 1000)
	behind := h.reluctant()
	behind.stuffs(masked(messages(500, 3000)...))
	states := map[uint16]Conn{}
	for _, c := range h.lists(ByAge, 10) {
		states[c.Peer.Port()] = c
	}
	for _, want := range []struct {
		p     *peer
		state string
		rest  int
	}{{silent, "handshake", 0}, {unfinished, "open", 7}, {left, "waiting for FIN", 0}, {behind, "write backlog", -1}} {
		got := states[want.p.port()]
		if got.State != want.state || want.rest >= 0 && got.Rest != want.rest {
			t.Errorf("want %q with a rest of %d: %+v", want.state, want.rest, got)
		}
		if got.Held < got.Rest+got.Unsent || (got.Unsent > 0) != (want.state == "write backlog") {
			t.Errorf("held: %+v", got)
		}
	}
}

// A connection on a unix socket has no address, and its bytes are those that were read.
func TestListUnix(t *testing.T) {
	h := opensAt(t, []string{"unix:" + t.TempDir() + "/socket"})
	h.connects()
	list := h.lists(ByAge, 10)
	if len(list) != 1 || list[0].Peer.IsValid() || list[0].Received != uint64(len(request)) {
		t.Errorf("%+v", list)
	}
}

// A worker goes on with its work between two slices of the list.
func TestListIsMadeInSlices(t *testing.T) {
	h := opens(t, func(cfg *Config) { cfg.MaxFDs = 100 * listSlice })
	h.connects()
	before := h.count().Wakeups
	h.lists(ByAge, 10)
	if passes := h.count().Wakeups - before; passes < 100 {
		t.Errorf("%d passes for 100 slices", passes)
	}
}

// Who does not wait for the list, does not have it made.
func TestListIsGivenUp(t *testing.T) {
	h := opens(t, func(cfg *Config) { cfg.MaxFDs = 10 * listSlice })
	h.connects()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := h.List(ctx, ByAge, 10); list != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", list, err)
	}
	h.pass()
	before := h.count().Wakeups
	h.pass()
	h.pass()
	if len(h.workers[0].mail.letters) > 0 {
		t.Errorf("after %d passes it is still being made", h.count().Wakeups-before)
	}
}

func TestListWhileShuttingDown(t *testing.T) {
	h := opens(t, workers(2)).starts()
	h.Shutdown(soon)
	if list, err := h.List(within(t, soon), ByAge, 10); len(list) > 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestParseOrder(t *testing.T) {
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		if got, err := ParseOrder(by.String()); got != by || err != nil {
			t.Errorf("%v is read as %v, %v", by, got, err)
		}
	}
	if _, err := ParseOrder("size"); err == nil || !strings.Contains(err.Error(), `"size" is not one of age, idle, bytes`) {
		t.Error(err)
	}
}

// Leaders are what one would have by sorting everything.
func TestLeaders(t *testing.T) {
	same := func(ranks []uint16, limit uint8) bool {
		l := leaders{limit: 1 + int(limit)%10}
		var all []uint64
		for i, r := range ranks {
			l.note(candidate{life: life{fd: int32(i)}, rank: uint64(r) % 20})
			all = append(all, uint64(r)%20)
		}
		slices.SortFunc(all, func(a, b uint64) int { return cmp.Compare(b, a) })
		var got []uint64
		for _, c := range l.all() {
			got = append(got, c.rank)
		}
		return slices.Equal(got, all[:min(len(all), l.limit)])
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

// BenchmarkList is of one slice, whose descriptors are all connections: for so long a worker does nothing else.
func BenchmarkListSlice(b *testing.B) {
	h := opens(b, func(cfg *Config) { cfg.MaxFDs = 1 << 20 })
	w := h.workers[0]
	for fd := range 1 << 20 {
		w.mine.add(fd)
	}
	defer func() {
		for fd := range 1 << 20 {
			w.mine.remove(fd)
		}
	}()
	for b.Loop() {
		w.search(b.Context(), ByBytes, 100)
		w.readMail()
		w.letters, w.mail.letters = w.letters[:0], nil
	}
}

// A connection that its peer has reset has no address any more, and is not taken for one on a unix socket.
func TestListWithoutConnectionsThatWereReset(t *testing.T) {
	h := opens(t)
	a, b := h.connects(), h.connects()
	_, fd := b.slot()
	b.resets()
	for end := time.Now().Add(soon); ; {
		if _, err := unix.Getpeername(fd); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the reset does not arrive")
		}
	}
	w := h.workers[0]
	var all []candidate
	w.mine.each(func(fd int) { all = append(all, candidate{life: life{int32(fd), h.slots[fd].gen}}) })
	if conns := w.describe(all); len(all) != 2 || len(conns) != 1 || conns[0].Peer.Port() != a.port() {
		t.Errorf("of %d connections, %+v are listed", len(all), conns)
	}
}
