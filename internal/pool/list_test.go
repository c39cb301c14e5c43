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

// lists returns the first connections in an order.
func (h *harness) lists(by Order, limit int) []Conn {
	h.t.Helper()
	return h.queries(Query{By: by, Limit: limit}).Conns
}

// queries returns the answer to a query.
func (h *harness) queries(q Query) Listing {
	h.t.Helper()
	return asks(h, func(ctx context.Context) (Listing, error) { return h.List(ctx, q) })
}

// port returns the peer's port, which identifies it in lists.
func (p *peer) port() uint16 {
	p.h.t.Helper()
	name, err := unix.Getsockname(p.fd)
	if err != nil {
		p.h.t.Fatal(err)
	}
	return uint16(name.(*unix.SockaddrInet4).Port)
}

// wantsList checks that a list has exactly the wanted peers, in this order.
func (h *harness) wantsList(by Order, limit int, want ...*peer) []Conn {
	h.t.Helper()
	list := h.lists(by, limit)
	ports := []uint16{}
	for _, c := range list {
		if c.Peer.Addr() != netip.MustParseAddr("127.0.0.1") {
			h.t.Errorf("got peer %v, want one on 127.0.0.1", c.Peer)
		}
		ports = append(ports, c.Peer.Port())
	}
	wanted := []uint16{}
	for _, p := range want {
		wanted = append(wanted, p.port())
	}
	if !slices.Equal(ports, wanted) {
		h.t.Errorf("by %v: got ports %v, want %v", by, ports, wanted)
	}
	return list
}

func TestList(t *testing.T) {
	h := newHarness(t, workers(2))
	var peers []*peer
	for range 5 {
		peers = append(peers, h.connects())
		h.advances(time.Second)
	}
	a, b, c, d, e := peers[0], peers[1], peers[2], peers[3], peers[4]
	h.wantsList(ByAge, 10, a, b, c, d, e)
	h.wantsList(ByAge, 2, a, b)

	b.sends(masked(messages(1, 9000)...))
	b.wantsEcho("echo of 9000 bytes", messages(1, 9000)...)
	h.advances(time.Second)
	a.sends(masked(messages(1, 1000)...))
	a.wantsEcho("echo of 1000 bytes", messages(1, 1000)...)
	h.advances(time.Second)
	list := h.wantsList(ByBytes, 2, b, a)
	sent := uint64(len(request) + len(masked(messages(1, 9000)...)))
	if got := list[0]; got.Received != sent || got.Sent < 9000 || got.State != "open" || got.Unsent+got.Rest+got.Held != 0 {
		t.Errorf("want %d bytes received, at least 9000 sent, and none held: got %+v", sent, got)
	}
	list = h.wantsList(ByIdle, 10, c, d, e, b, a)
	if idle, age := list[4].Idle, list[4].Age; idle < time.Second || idle > time.Second+2*late || age < 7*time.Second || age > 7*time.Second+20*late {
		t.Errorf("got an idle time of %v, want 1s; got an age of %v, want 7s", idle, age)
	}
	h.wantsList(ByIdle, 0)
}

// Pages of any size, by offset or by cursor, add up to a single page with all connections. By
// cursor they do even if a connection on an earlier page has ended.
func TestListPages(t *testing.T) {
	h := newHarness(t, workers(3))
	const n = 13
	var peers []*peer
	for i := range n {
		peers = append(peers, h.connects())
		if i%3 == 0 { // several have the same age
			h.advances(time.Second)
		}
	}
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		all := h.queries(Query{By: by, Limit: n})
		if len(all.Conns) != n || all.Total != n || all.Matched != n || all.Next != nil {
			t.Fatalf("by %v: got %d connections, %d matched of %d, next %v", by, len(all.Conns), all.Matched, all.Total, all.Next)
		}
		want := fds(all.Conns)
		for _, limit := range []int{1, 2, 5, n - 1, n, n + 1} {
			var byOffset, byCursor []int
			for q := (Query{By: by, Limit: limit}); q.Offset < n; q.Offset += limit {
				byOffset = append(byOffset, fds(h.queries(q).Conns)...)
			}
			q := Query{By: by, Limit: limit}
			for pages := 1; ; pages++ {
				l := h.queries(q)
				byCursor = append(byCursor, fds(l.Conns)...)
				if q.After = l.Next; q.After == nil {
					if most := (n + limit - 1) / limit; pages != most {
						t.Errorf("by %v: got %d pages of %d, want %d", by, pages, limit, most)
					}
					break
				}
			}
			if !slices.Equal(byOffset, want) || !slices.Equal(byCursor, want) {
				t.Errorf("by %v, pages of %d: got %v by offset and %v by cursor, want %v", by, limit, byOffset, byCursor, want)
			}
		}
		for _, beyond := range []int{n, n + 1, skipStep, skipStep + n, 1 << 40} {
			if l := h.queries(Query{By: by, Limit: 5, Offset: beyond}); len(l.Conns) > 0 || l.Next != nil || l.Matched != n {
				t.Errorf("by %v, offset %d: got %+v, want no connections", by, beyond, l)
			}
		}
	}
	if l := h.queries(Query{}); len(l.Conns) > 0 || l.Total != n || l.Matched != n || l.Next != nil {
		t.Errorf("limit 0: got %+v, want only counts", l)
	}

	first := h.queries(Query{Limit: 5})
	later := fds(h.queries(Query{After: first.Next, Limit: n}).Conns)
	peers[0].resets()
	h.runsUntilIdle()
	h.connects() // the youngest, with the descriptor of the one that was reset
	if got := fds(h.queries(Query{After: first.Next, Limit: n}).Conns); !slices.Equal(got[:len(later)], later) || len(got) != len(later)+1 {
		t.Errorf("page after a cursor: got %v before and %v after a reset, want one more connection", later, got)
	}
}

// fds returns the descriptors of conns.
func fds(conns []Conn) (fds []int) {
	for _, c := range conns {
		fds = append(fds, c.FD)
	}
	return fds
}

// A high offset takes several passes, with the same result.
func TestListSkipsInSteps(t *testing.T) {
	const step, n = 500, 3*500 + 100
	h := newHarness(t)
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
		t.Fatalf("got %d candidates, %d of %d match, room for %d; want 21, all, and room for at most 4 steps", len(found), s.matched, s.total, cap(s.best.some))
	}
	for i, c := range found {
		if want := n - 50 + i; int(c.fd) != want {
			t.Fatalf("candidate %d has descriptor %d, want %d", i, c.fd, want)
		}
	}
}

// A pass examines the descriptors at the boundaries of its parts and slices exactly once.
func TestListExaminesEachDescriptorOnce(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxFDs = 2*listPart + 64 })
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
		t.Errorf("got %v of %d, want %v", got, s.total, want)
	}
}

// Only connections that match the filter are listed and counted as matches.
func TestListByPeer(t *testing.T) {
	h := newHarnessAt(t, []string{"127.0.0.1:0", "unix:" + t.TempDir() + "/socket"}, workers(2))
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
			t.Errorf("%s: got %d connections, %d matches of %d, want %d matches of 3", filter, len(l.Conns), l.Matched, l.Total, want)
		}
	}
	f, _ := ParsePeer("127.0.0.0/8")
	l := h.queries(Query{Peer: f, Offset: 1, Limit: 1})
	if len(l.Conns) != 1 || l.Conns[0].Peer.Port() != b.port() || l.Matched != 2 || l.Next != nil {
		t.Errorf("got %+v, want the second of two matches", l)
	}
}

// value is the inverse of rank, and a connection that is newer than the list ranks as the youngest.
func TestRankAndValueAreInverse(t *testing.T) {
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		for _, now := range []tick{0, 5, 1 << 31, 1<<32 - 1} {
			s := selection{query: Query{By: by}, now: now}
			for _, value := range []tick{now - 1<<30, now - 1, now, now + 1} {
				if got := s.value(s.rank(uint64(value))); got != uint64(value) {
					t.Errorf("by %v at %d: value(rank(%d)) is %d", by, now, value, got)
				}
			}
			if by != ByBytes && s.rank(uint64(now+1)) >= s.rank(uint64(now)) {
				t.Errorf("by %v at %d: a new connection ranks before older ones", by, now)
			}
		}
	}
}

// A connection that ends between search and describe is omitted, and so is a connection with the
// same descriptor from another peer.
func TestListOmitsEndedConnections(t *testing.T) {
	h := newHarness(t)
	_, gone := h.connects().slot()
	_, there := h.connects().slot()
	stale := candidate{life: life{int32(gone), h.slots[gone].gen - 1}}
	fresh := candidate{life: life{int32(there), h.slots[there].gen}}
	describe := func(q Query) []int {
		s := selection{pool: h.Pool, query: q}
		return fds(asks(h, func(ctx context.Context) ([]Conn, error) { return s.describe(ctx, []candidate{stale, fresh}) }))
	}
	if got := describe(Query{}); !slices.Equal(got, []int{there}) {
		t.Errorf("got descriptors %v, want only %d", got, there)
	}
	others, _ := ParsePeer("192.0.2.0/24")
	if got := describe(Query{Peer: others}); len(got) > 0 {
		t.Errorf("got descriptors %v of peers that do not match, want none", got)
	}
}

// The list has the state and the held memory of each connection.
func TestListStates(t *testing.T) {
	h := newHarness(t)
	silent, unfinished, left := h.dials(), h.connects(), h.connects()
	unfinished.sends(masked(text("half"))[:7])
	left.sends(masked(closing(1000)))
	left.wantsClose("close reply", 1000)
	behind := h.connectsWithSmallBuffers()
	behind.sendsUntilBlocked(masked(messages(500, 3000)...))
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
			t.Errorf("got %+[3]v, want state %[1]q with a rest of %[2]d", want.state, want.rest, got)
		}
		if got.Held < got.Rest+got.Unsent || (got.Unsent > 0) != (want.state == "write backlog") {
			t.Errorf("got %+v, want Held to include Rest and Unsent", got)
		}
	}
}

// A connection on a unix socket has no address.
func TestListUnix(t *testing.T) {
	h := newHarnessAt(t, []string{"unix:" + t.TempDir() + "/socket"})
	h.connects()
	list := h.lists(ByAge, 10)
	if len(list) != 1 || list[0].Peer.IsValid() || list[0].Received != uint64(len(request)) {
		t.Errorf("got list %+v, want one connection without an address", list)
	}
}

// A worker serves its connections between two slices of a list.
func TestListIsMadeInSlices(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxFDs = 100 * listSlice })
	h.connects()
	before := h.count().Wakeups
	h.lists(ByAge, 10)
	if passes := h.count().Wakeups - before; passes < 100 {
		t.Errorf("got %d passes for 100 slices, want at least 100", passes)
	}
}

// The workers stop making a list when its context ends.
func TestListStopsWhenCanceled(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxFDs = 10 * listSlice })
	h.connects()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := h.List(ctx, Query{Limit: 10}); l.Conns != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, error %v; want Canceled", l, err)
	}
	h.pass()
	before := h.count().Wakeups
	h.pass()
	h.pass()
	if len(h.workers[0].mail.messages) > 0 {
		t.Errorf("after %d passes the worker still makes the list", h.count().Wakeups-before)
	}
}

func TestListAfterShutdown(t *testing.T) {
	h := newHarness(t, workers(2)).starts()
	h.Shutdown(soon)
	if l, err := h.List(within(t, soon), Query{Limit: 10}); len(l.Conns) > 0 || err != nil {
		t.Errorf("got %v, error %v; want an empty list", l, err)
	}
}

func TestParseOrder(t *testing.T) {
	for _, by := range []Order{ByAge, ByIdle, ByBytes} {
		if got, err := ParseOrder(by.String()); got != by || err != nil {
			t.Errorf("ParseOrder(%q): got %v, error %v", by, got, err)
		}
	}
	if _, err := ParseOrder("size"); err == nil || !strings.Contains(err.Error(), `"size" is not one of age, idle, bytes`) {
		t.Errorf("ParseOrder(\"size\"): got error %v", err)
	}
}

// The leaders equal the beginning of the sorted candidates.
func TestLeadersKeepsTheFirst(t *testing.T) {
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

// BenchmarkListSlice measures the search of one slice of descriptors that are all connections. A
// worker serves no connection during that time.
func BenchmarkListSlice(b *testing.B) {
	h := newHarness(b, func(cfg *Config) { cfg.MaxFDs = 1 << 20 })
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

// After a reset, a TCP connection has no address. It is omitted, rather than listed as one on a
// unix socket.
func TestListOmitsResetConnections(t *testing.T) {
	h := newHarness(t)
	a, b := h.connects(), h.connects()
	_, fd := b.slot()
	b.resets()
	for end := time.Now().Add(soon); ; {
		if _, err := unix.Getpeername(fd); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("timed out waiting for the reset")
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
		t.Errorf("got %d connections, of which %+v are listed; want 2, of which the one without a reset", h.conns(), listed)
	}
}
