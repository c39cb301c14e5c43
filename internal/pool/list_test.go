package pool

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"golang.org/x/sys/unix"
)

func (h *harness) lists(by Order, limit int) []Conn {
	h.t.Helper()
	return h.queries(Query{By: by, Limit: limit}).Conns
}

func (h *harness) queries(q Query) Listing {
	h.t.Helper()
	return asks(h, func(ctx context.Context) (Listing, error) { return h.List(ctx, q) })
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

func (h *harness) wantsList(by Order, limit int, want ...*peer) []Conn {
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

// Pages of any size are what one page with everything would be, by offset as well as by mark, and
// even when a connection at the beginning has gone in between (by mark).
func TestListPages(t *testing.T) {
	h := opens(t, workers(3))
	const n = 13
	var peers []*peer
	for i := range n {
		peers = append(peers, h.connects())
		if i%3 == 0 { // so that several are of the same age
			h.later(time.Second)
		}
	}
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		all := h.queries(Query{By: by, Limit: n})
		if len(all.Conns) != n || all.Total != n || all.Matched != n || all.Next != nil {
			t.Fatalf("by %v: %d of %d and %d, next %v", by, len(all.Conns), all.Matched, all.Total, all.Next)
		}
		want := fds(all.Conns)
		for _, limit := range []int{1, 2, 5, n - 1, n, n + 1} {
			var byOffset, byMark []int
			for q := (Query{By: by, Limit: limit}); q.Offset < n; q.Offset += limit {
				byOffset = append(byOffset, fds(h.queries(q).Conns)...)
			}
			q := Query{By: by, Limit: limit}
			for pages := 1; ; pages++ {
				l := h.queries(q)
				byMark = append(byMark, fds(l.Conns)...)
				if q.After = l.Next; q.After == nil {
					if most := (n + limit - 1) / limit; pages != most {
						t.Errorf("by %v: %d pages of %d, want %d", by, pages, limit, most)
					}
					break
				}
			}
			if !slices.Equal(byOffset, want) || !slices.Equal(byMark, want) {
				t.Errorf("by %v, pages of %d: %v by offset, %v by mark, want %v", by, limit, byOffset, byMark, want)
			}
		}
		for _, beyond := range []int{n, n + 1, skipStep, skipStep + n, 1 << 40} {
			if l := h.queries(Query{By: by, Limit: 5, Offset: beyond}); len(l.Conns) > 0 || l.Next != nil || l.Matched != n {
				t.Errorf("by %v, from %d: %+v", by, beyond, l)
			}
		}
	}
	if l := h.queries(Query{}); len(l.Conns) > 0 || l.Total != n || l.Matched != n || l.Next != nil {
		t.Errorf("without a limit only counts are wanted: %+v", l)
	}

	first := h.queries(Query{Limit: 5})
	rest := fds(h.queries(Query{After: first.Next, Limit: n}).Conns)
	peers[0].resets()
	h.settles()
	h.connects() // the youngest, and on the same descriptor
	if got := fds(h.queries(Query{After: first.Next, Limit: n}).Conns); !slices.Equal(got[:len(rest)], rest) || len(got) != len(rest)+1 {
		t.Errorf("after a mark: %v, then %v", rest, got)
	}
}

func fds(conns []Conn) (fds []int) {
	for _, c := range conns {
		fds = append(fds, c.FD)
	}
	return fds
}

// An offset beyond what one pass leaves out takes several, and comes to the same.
func TestListSkipsInSteps(t *testing.T) {
	const step, n = 500, 3*500 + 100
	h := opens(t)
	w := h.workers[0]
	for fd := range n {
		w.conns.mine.add(fd)
		w.conns.slots[fd].bytes = uint64(n - fd/2)
	}
	s := selection{pool: h.Pool, query: Query{By: ByBytes, Offset: n - 50, Limit: 20}, step: step}
	found := asks(h, s.find)
	for fd := range n {
		w.conns.mine.remove(fd)
		w.conns.slots[fd].bytes = 0
	}
	if s.total != n || s.matched != n || len(found) != 21 || cap(s.best.some) > 4*step {
		t.Fatalf("%d found, %d of %d match, for which %d were kept", len(found), s.matched, s.total, cap(s.best.some))
	}
	for i, c := range found {
		if want := n - 50 + i; int(c.fd) != want {
			t.Fatalf("place %d has descriptor %d, want %d", i, c.fd, want)
		}
	}
}

// Descriptors of all parts of a pass are looked at, and none twice.
func TestListOfHighDescriptors(t *testing.T) {
	h := opens(t, func(cfg *Config) { cfg.MaxFDs = 2*listPart + 64 })
	w := h.workers[0]
	want := []int{3, listSlice - 1, listSlice, listPart - 1, listPart, listPart + listSlice, 2*listPart - 1, 2*listPart + 63}
	for _, fd := range want {
		w.conns.mine.add(fd)
	}
	s := selection{pool: h.Pool, query: Query{By: ByBytes, Limit: 20}, step: skipStep}
	found := asks(h, s.find)
	for _, fd := range want {
		w.conns.mine.remove(fd)
	}
	var got []int
	for _, c := range found {
		got = append(got, int(c.fd))
	}
	if !slices.Equal(got, want) || s.total != len(want) {
		t.Errorf("%v of %d, want %v", got, s.total, want)
	}
}

// Only those that are asked for are listed and counted as matches, and pages are of those.
func TestListByPeer(t *testing.T) {
	h := opensAt(t, []string{"127.0.0.1:0", "unix:" + t.TempDir() + "/socket"}, workers(2))
	a, b := h.connects(), h.connects()
	h.dialsAt(1).upgrades()
	own := strconv.Itoa(int(a.port()))
	for filter, want := range map[string]int{
		"127.0.0.1":              2,
		"127.0.0.0/8":            2,
		"127.9.9.9/8":            2,
		"0.0.0.0/0":              2,
		"::ffff:127.0.0.1":       2,
		"::ffff:127.0.0.0/104":   2,
		"127.0.0.1:" + own:       1,
		"[::ffff:7f00:1]:" + own: 1,
		"127.0.0.2":              0,
		"127.0.0.2:" + own:       0,
		"128.0.0.0/8":            0,
		"::/0":                   0,
		"::1":                    0,
		"unix":                   1,
	} {
		f, err := ParsePeer(filter)
		if err != nil {
			t.Fatal(err)
		}
		l := h.queries(Query{Peer: f, Limit: 10})
		if len(l.Conns) != want || l.Matched != want || l.Total != 3 {
			t.Errorf("%s: %d of %d matches of %d, want %d of 3", filter, len(l.Conns), l.Matched, l.Total, want)
		}
	}
	f, _ := ParsePeer("127.0.0.0/8")
	l := h.queries(Query{Peer: f, Offset: 1, Limit: 1})
	if len(l.Conns) != 1 || l.Conns[0].Peer.Port() != b.port() || l.Matched != 2 || l.Next != nil {
		t.Errorf("the second of two: %+v", l)
	}
}

// A mark is what it was made of, and a connection that has come since the list was begun is younger
// than all others.
func TestListRank(t *testing.T) {
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		for _, now := range []tick{0, 5, 1 << 31, 1<<32 - 1} {
			s := selection{query: Query{By: by}, now: now}
			for _, value := range []tick{now - 1<<30, now - 1, now, now + 1} {
				if got := s.value(s.rank(uint64(value))); got != uint64(value) {
					t.Errorf("by %v at %d: %d has become %d", by, now, value, got)
				}
			}
			if by != ByBytes && s.rank(uint64(now+1)) >= s.rank(uint64(now)) {
				t.Errorf("by %v at %d: what comes is older than what has come", by, now)
			}
		}
	}
}

// A connection that ends between two looks is left out, and so is the one that has its descriptor
// then, wherever it comes from.
func TestListOfWhatHasGone(t *testing.T) {
	h := opens(t)
	_, gone := h.connects().slot()
	_, there := h.connects().slot()
	stale := candidate{life: life{int32(gone), h.slots[gone].gen - 1}}
	fresh := candidate{life: life{int32(there), h.slots[there].gen}}
	describe := func(q Query) []int {
		s := selection{pool: h.Pool, query: q}
		return fds(asks(h, func(ctx context.Context) ([]Conn, error) { return s.describe(ctx, []candidate{stale, fresh}) }))
	}
	if got := describe(Query{}); !slices.Equal(got, []int{there}) {
		t.Errorf("%v are described, want %d", got, there)
	}
	others, _ := ParsePeer("192.0.2.0/24")
	if got := describe(Query{Peer: others}); len(got) > 0 {
		t.Errorf("%v are described, which are others' peers", got)
	}
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
	if l, err := h.List(ctx, Query{Limit: 10}); l.Conns != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", l, err)
	}
	h.pass()
	before := h.count().Wakeups
	h.pass()
	h.pass()
	if len(h.workers[0].mail.messages) > 0 {
		t.Errorf("after %d passes it is still being made", h.count().Wakeups-before)
	}
}

func TestListWhileShuttingDown(t *testing.T) {
	h := opens(t, workers(2)).starts()
	h.Shutdown(soon)
	if l, err := h.List(within(t, soon), Query{Limit: 10}); len(l.Conns) > 0 || err != nil {
		t.Errorf("%v, %v", l, err)
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
		var all []int64
		for i, r := range ranks {
			l.note(candidate{life: life{fd: int32(i)}, rank: int64(r) % 20})
			all = append(all, int64(r)%20)
		}
		slices.SortFunc(all, func(a, b int64) int { return cmp.Compare(b, a) })
		var got []int64
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
		w.conns.mine.add(fd)
	}
	defer func() {
		for fd := range 1 << 20 {
			w.conns.mine.remove(fd)
		}
	}()
	for b.Loop() {
		w.search(b.Context(), &selection{pool: h.Pool, query: Query{By: ByBytes}}, 0, len(w.conns.mine))
		w.readMail()
		w.messages, w.mail.messages = w.messages[:0], nil
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
	var listed []Conn
	w.conns.mine.each(func(fd int) {
		if c := describe(&w.conns, life{int32(fd), h.slots[fd].gen}); c.State != "" {
			listed = append(listed, c)
		}
	})
	if h.conns() != 2 || len(listed) != 1 || listed[0].Peer.Port() != a.port() {
		t.Errorf("of %d connections, %+v are listed", h.conns(), listed)
	}
}
