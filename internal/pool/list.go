package pool

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// Order is by what connections are listed.
type Order int

const (
	ByAge   Order = iota // the oldest first
	ByIdle               // those first to whom nothing has happened for the longest time
	ByBytes              // those first that have sent the most
)

var orderNames = []string{ByAge: "age", ByIdle: "idle", ByBytes: "bytes"}

func (o Order) String() string { return orderNames[o] }

// ParseOrder is the order of that name.
func ParseOrder(name string) (Order, error) {
	if i := slices.Index(orderNames, name); i >= 0 {
		return Order(i), nil
	}
	return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(orderNames, ", "))
}

// Conn is a connection, as it was when its worker was asked.
type Conn struct {
	FD       int
	Worker   int
	Peer     netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	State    string
	Age      time.Duration // since its worker took it
	Idle     time.Duration // since it last sent something, or what it waits for began
	Received uint64        // bytes read
	Sent     uint64        // bytes that the kernel has sent; on a unix socket it is not known
	Unsent   int           // bytes of replies that the kernel has not taken
	Rest     int           // bytes of a frame or request that has not arrived whole
	Held     int           // bytes of the budget in which those lie
	Queued   bool          // it has more to read or to write, and waits for its turn
}

const (
	// listSlice is how many descriptors a worker looks at for one letter, which takes it a fraction of a
	// millisecond. Between two slices it does its work.
	listSlice = 4096

	// describeSlice is how many connections it describes for one letter, at two system calls each.
	describeSlice = 64
)

// List is the first of all connections in the given order, no more than limit. Each worker goes through its own, in slices
// between which it does its work, and keeps the first of them; so neither it nor the answer is burdened by how many there
// are. Connections that come and go meanwhile may be missing.
func (p *Pool) List(ctx context.Context, by Order, limit int) ([]Conn, error) {
	if limit <= 0 {
		return nil, nil
	}
	searches := make([]<-chan []candidate, len(p.workers))
	for i, w := range p.workers {
		searches[i] = w.search(ctx, by, limit)
	}
	var all []candidate
	for i, w := range p.workers {
		found, err := await(ctx, w, searches[i])
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, firstBefore)
	all = all[:min(len(all), limit)]

	conns := make([]Conn, 0, len(all))
	for part := range slices.Chunk(all, describeSlice) {
		for _, w := range p.workers {
			some, err := await(ctx, w, ask(w, func(w *worker) []Conn { return w.describe(part) }))
			if err != nil {
				return nil, err
			}
			conns = append(conns, some...)
		}
	}
	slices.SortStableFunc(conns, func(a, b Conn) int { return cmp.Compare(by.of(&b), by.of(&a)) })
	return conns, nil
}

// of is what a connection is ordered by.
func (o Order) of(c *Conn) uint64 {
	switch o {
	case ByAge:
		return uint64(c.Age)
	case ByIdle:
		return uint64(c.Idle)
	}
	return c.Received
}

// await waits for a worker's answer. One that has ended gives none.
func await[T any](ctx context.Context, w *worker, answer <-chan T) (none T, err error) {
	select {
	case x := <-answer:
		return x, nil
	case <-w.ended:
		return none, nil
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// candidate is a connection that may be among the first.
type candidate struct {
	life
	worker int
	rank   uint64 // the highest is first
}

func firstBefore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.fd, b.fd))
}

// search has the worker look for its first connections. It writes itself a letter for each further slice, until it is through
// or nobody wants to know any more.
func (w *worker) search(ctx context.Context, by Order, limit int) <-chan []candidate {
	answer := make(chan []candidate, 1)
	best := leaders{limit: limit}
	at := 0 // the word where the next slice begins
	var slice func(w *worker)
	slice = func(w *worker) {
		if ctx.Err() != nil {
			return
		}
		from := at
		at = min(at+listSlice/64, len(w.mine))
		w.mine[from:at].each(func(i int) {
			fd := from<<6 + i
			s := &w.pool.slots[fd]
			best.note(candidate{life{int32(fd), s.gen}, w.index, w.rank(s, by)})
		})
		if at == len(w.mine) {
			answer <- best.all()
			return
		}
		w.post(letter{do: slice})
	}
	w.post(letter{do: slice})
	return answer
}

// rank is what a connection is ordered by.
func (w *worker) rank(s *slot, by Order) uint64 {
	switch by {
	case ByAge:
		return uint64(w.now - s.opened)
	case ByIdle:
		return uint64(w.now - s.since)
	}
	return s.bytes
}

// leaders keeps the first of many candidates.
type leaders struct {
	limit int
	some  []candidate // up to twice as many as are wanted
	least uint64      // with so little rank, or less, none can be among the first
	full  bool        // there are enough for least to mean something
}

func (l *leaders) note(c candidate) {
	if l.full && c.rank <= l.least {
		return
	}
	if l.some = append(l.some, c); len(l.some) >= 2*l.limit {
		l.cut()
	}
}

func (l *leaders) cut() {
	slices.SortFunc(l.some, firstBefore)
	if len(l.some) >= l.limit {
		l.some = l.some[:l.limit]
		l.least, l.full = l.some[l.limit-1].rank, true
	}
}

func (l *leaders) all() []candidate {
	l.cut()
	return l.some
}

// describe describes those candidates that are the worker's, and are still there.
func (w *worker) describe(candidates []candidate) (conns []Conn) {
	for _, c := range candidates {
		if c.worker != w.index {
			continue
		}
		s := w.slotOf(c.life)
		if s == nil {
			continue
		}
		fd := int(c.fd)
		peer, known := w.peers[c.fd]
		if !known {
			var err error
			if peer, err = netpoll.Peer(fd); err != nil {
				continue // the peer has reset it, and the worker is about to end it
			}
		}
		x := Conn{
			FD: fd, Worker: w.index, Peer: peer, State: w.state(s),
			Age:    time.Duration(w.now-s.opened) * tickTime,
			Idle:   time.Duration(w.now-s.since) * tickTime,
			Unsent: len(w.unsent(s)), Rest: len(w.rest(s)), Queued: s.is(queued),
		}
		if s.held != 0 {
			x.Held = len(w.pool.arena.bytes(s.held))
		}
		x.Received = s.bytes
		x.Sent, _ = netpoll.Sent(fd)
		conns = append(conns, x)
	}
	return conns
}

// state is what a connection does, in a word or two.
func (w *worker) state(s *slot) string {
	switch {
	case s.is(shut):
		return "waiting for FIN"
	case w.hasUnsent(s):
		return "write backlog"
	case s.is(parked):
		return "waiting for room"
	}
	switch s.proto.Phase() {
	case echo.Handshake:
		return "handshake"
	case echo.Open:
		return "open"
	case echo.CloseSent:
		return "close sent"
	}
	return "closing"
}
