package pool

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wsecho/internal/netpoll"
)

// Order is the order in which connections are listed.
type Order int

const (
	ByAge   Order = iota // oldest first
	ByIdle               // longest idle first
	ByBytes              // most bytes received from the peer first
)

var orderNames = []string{ByAge: "age", ByIdle: "idle", ByBytes: "bytes"}

func (o Order) String() string { return orderNames[o] }

// ParseOrder returns the order with the given name: age, idle or bytes.
func ParseOrder(name string) (Order, error) {
	if i := slices.Index(orderNames, name); i >= 0 {
		return Order(i), nil
	}
	return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(orderNames, ", "))
}

// Conn describes a connection at the time when its worker was asked.
type Conn struct {
	FD       int
	Worker   int
	Peer     netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	State    string         // name of its activity: see lifecycle.go
	Age      time.Duration  // since its worker took it
	Idle     time.Duration  // since the peer last sent something, or since the wait that State names began
	Received uint64         // bytes read
	Sent     uint64         // bytes that the kernel has sent; 0 on a unix socket, where that is unknown
	Unsent   int            // bytes of replies that the kernel has not taken
	Rest     int            // bytes of a frame or request that is not complete
	Held     int            // bytes of the budget that hold Unsent and Rest
	Queued   bool           // it has more to read or to write, and continues in the next pass
}

// A Query selects and orders connections.
type Query struct {
	By     Order
	Peer   *PeerFilter // only connections from matching peers; nil: all
	After  *Cursor     // only connections after this place in the order; nil: all
	Offset int         // number of connections to skip
	Limit  int         // maximum number of connections to return
}

// A Cursor is a place in an order, just after some connection. It stays valid when connections
// begin and end, even that one.
type Cursor struct {
	Value uint64 // of the connection before it: its bytes, or the tick from which its age or idle time counts
	FD    int32  // of the connection before it
}

// A Listing is the answer to a Query.
type Listing struct {
	Conns   []Conn
	Total   int     // number of connections of all workers
	Matched int     // number of those that match Query.Peer
	Next    *Cursor // the After of the next page; nil: this is the last one
}

const (
	// listSlice is the number of descriptors that a worker examines per message, which takes a
	// fraction of a millisecond. Between two slices the worker serves its connections.
	listSlice = 4096

	// listPart is the number of descriptors that each worker examines before List takes the
	// results. At 24 bytes per connection they need at most 1.5 MiB.
	listPart = 16 * listSlice

	// skipStep is the maximum number of connections that List skips per pass over all connections.
	// A high offset thus takes more time but not more memory, which is at most twice 24 bytes for
	// each of skipStep and Query.Limit.
	skipStep = 65_536

	// describeSlice is the number of connections that a worker describes per message, with two
	// system calls each.
	describeSlice = 64
)

// List returns the connections that a query selects, in its order; equal ones are ordered by
// descriptor. The workers only copy data from their slots, and serve connections between two
// slices. List selects and sorts in the caller's goroutine. Connections that begin or end during
// the call may be missing. The error is the cause of ctx's end.
func (p *Pool) List(ctx context.Context, q Query) (Listing, error) {
	s := selection{pool: p, query: q, now: now(), step: skipStep}
	found, err := s.find(ctx)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Total: s.total, Matched: s.matched}
	if len(found) > q.Limit {
		if found = found[:q.Limit]; q.Limit > 0 {
			last := found[q.Limit-1]
			l.Next = &Cursor{s.value(last.rank), last.fd}
		}
	}
	l.Conns, err = s.describe(ctx, found)
	return l, err
}

// A selection is the state of a List call.
type selection struct {
	pool           *Pool
	query          Query
	now            tick
	step           int        // skipStep
	after          *candidate // select only candidates after it; nil: all
	best           leaders
	total, matched int // see Listing
}

// find returns the candidates of a page, plus one if there is a next page.
func (s *selection) find(ctx context.Context) ([]candidate, error) {
	if cursor := s.query.After; cursor != nil {
		s.after = &candidate{life: life{fd: cursor.FD}, rank: s.rank(cursor.Value)}
	}
	for skip := s.query.Offset; ; {
		step := min(skip, s.step)
		s.best = leaders{limit: step + s.query.Limit + 1}
		if err := s.pass(ctx); err != nil {
			return nil, err
		}
		found := s.best.all()
		if step == skip || len(found) <= step {
			return found[min(step, len(found)):], nil
		}
		skip -= step
		s.after = &found[step-1]
	}
}

// rank returns the rank of a connection, given the value that valueOf returns for its slot. The
// highest rank comes first. All ages are relative to the same tick, since the workers' clocks
// differ.
func (s *selection) rank(value uint64) int64 {
	if s.query.By == ByBytes {
		return int64(value)
	}
	return int64(int32(s.now - tick(value)))
}

// value is the inverse of rank.
func (s *selection) value(rank int64) uint64 {
	if s.query.By == ByBytes {
		return uint64(rank)
	}
	return uint64(s.now - tick(rank))
}

// pass goes through all connections, keeps the best, and counts all connections and the matching
// ones.
func (s *selection) pass(ctx context.Context) error {
	s.total, s.matched = 0, 0
	workers := s.pool.workers
	searches := make([]<-chan [][]candidate, len(workers))
	words := len(workers[0].conns.mine) // the same for all
	for from := 0; from < words; from += listPart / 64 {
		for i, w := range workers {
			searches[i] = w.search(ctx, s, from, min(from+listPart/64, words))
		}
		for i, w := range workers {
			found, err := waitForAnswer(ctx, w, searches[i])
			if err != nil && err != errEnded {
				return err
			}
			for _, slice := range found {
				s.total += len(slice)
				for _, c := range slice {
					// The filter calls getpeername here, not in the worker's goroutine. If the
					// descriptor belongs to another connection by now, describe notices.
					if s.query.Peer == nil || s.query.Peer.includes(int(c.fd)) {
						s.matched++
						s.note(c)
					}
				}
			}
		}
	}
	return nil
}

func (s *selection) note(c candidate) {
	if s.after == nil || firstBefore(*s.after, c) < 0 {
		s.best.note(c)
	}
}

// describe has all workers describe their own candidates at the same time.
func (s *selection) describe(ctx context.Context, found []candidate) ([]Conn, error) {
	type place struct {
		worker, at int
	}
	order := make([]place, len(found))
	parts := make([][]candidate, len(s.pool.workers))
	for i, c := range found {
		order[i] = place{c.worker, len(parts[c.worker])}
		parts[c.worker] = append(parts[c.worker], c)
	}
	answers := make([]<-chan []Conn, len(parts))
	for i, w := range s.pool.workers {
		if len(parts[i]) > 0 {
			answers[i] = w.describeAll(ctx, parts[i])
		}
	}
	described := make([][]Conn, len(parts))
	for i, w := range s.pool.workers {
		if len(parts[i]) > 0 {
			var err error
			if described[i], err = waitForAnswer(ctx, w, answers[i]); err != nil && err != errEnded {
				return nil, err
			}
		}
	}
	conns := make([]Conn, 0, len(found))
	for _, o := range order {
		if o.at >= len(described[o.worker]) {
			continue // the worker has ended
		}
		c := &described[o.worker][o.at]
		if c.State != "" && (s.query.Peer == nil || s.query.Peer.matches(c.FD, c.Peer)) {
			conns = append(conns, *c)
		}
	}
	return conns, nil
}

// A candidate is a connection that may be on the page.
type candidate struct {
	life
	worker int
	rank   int64 // the highest comes first
}

// firstBefore compares candidates by rank, the highest first, then by descriptor.
func firstBefore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.fd, b.fd))
}

// inSlices has the worker call step once per message, until step returns false or ctx is done.
// Between two calls the worker serves its connections.
func (w *worker) inSlices(ctx context.Context, step func(w *worker) bool) {
	w.mail.post(message{do: func(w *worker) {
		if ctx.Err() == nil && step(w) {
			w.inSlices(ctx, step)
		}
	}})
}

// search has the worker examine the words from..to of its set. The answer has one slice of
// candidates per listSlice descriptors. The worker only copies; it does not sort.
func (w *worker) search(ctx context.Context, s *selection, from, to int) <-chan [][]candidate {
	answer := make(chan [][]candidate, 1)
	by, rank := s.query.By, s.rank
	var all [][]candidate
	w.inSlices(ctx, func(w *worker) bool {
		words := w.conns.mine[from:min(from+listSlice/64, to)]
		n := 0
		for _, word := range words {
			n += bits.OnesCount64(word)
		}
		if n > 0 {
			slice := make([]candidate, 0, n)
			for i := range words.all() {
				c := w.conns.at(from<<6 + i)
				slice = append(slice, candidate{c.life(), w.conns.index, rank(valueOf(c.slot, by))})
			}
			all = append(all, slice)
		}
		if from += len(words); from < to {
			return true
		}
		answer <- all
		return false
	})
	return answer
}

// valueOf returns the field of a slot by which its connection is ordered.
func valueOf(s *slot, by Order) uint64 {
	switch by {
	case ByAge:
		return uint64(s.opened)
	case ByIdle:
		return uint64(s.since)
	}
	return s.bytes
}

// leaders keeps the first limit of many candidates.
type leaders struct {
	limit int
	some  []candidate // at most twice limit
	least candidate   // valid if full: candidates after it cannot be among the first
	full  bool        // limit candidates have been found
}

// note adds a candidate, unless it cannot be among the first.
func (l *leaders) note(c candidate) {
	if l.full && firstBefore(l.least, c) < 0 {
		return
	}
	if l.some = append(l.some, c); len(l.some) >= 2*l.limit {
		l.cut()
	}
}

// cut sorts the candidates and drops those beyond limit.
func (l *leaders) cut() {
	slices.SortFunc(l.some, firstBefore)
	if len(l.some) >= l.limit {
		l.some = l.some[:l.limit]
		l.least, l.full = l.some[l.limit-1], true
	}
}

// all returns the first limit candidates in order.
func (l *leaders) all() []candidate {
	l.cut()
	return l.some
}

// describeAll has the worker describe its own candidates. The answer has one Conn per candidate,
// the zero Conn for a connection that has ended.
func (w *worker) describeAll(ctx context.Context, candidates []candidate) <-chan []Conn {
	answer := make(chan []Conn, 1)
	conns := make([]Conn, 0, len(candidates))
	w.inSlices(ctx, func(w *worker) bool {
		for range min(describeSlice, len(candidates)-len(conns)) {
			conns = append(conns, describe(&w.conns, candidates[len(conns)].life))
		}
		if len(conns) < len(candidates) {
			return true
		}
		answer <- conns
		return false
	})
	return answer
}

// describe returns the description of a connection, or the zero Conn if it has ended.
func describe(cs *conns, l life) Conn {
	c, ok := cs.find(l)
	if !ok {
		return Conn{}
	}
	peer, err := cs.observer.peer(c)
	if err != nil {
		return Conn{}
	}
	sent, _ := netpoll.Sent(c.fd)
	return Conn{
		FD: c.fd, Worker: cs.index, Peer: peer, State: activities[c.activity].name,
		Age: cs.now.after(c.opened), Idle: cs.now.after(c.since),
		Received: c.bytes, Sent: sent,
		Unsent: len(cs.store.unsent(c.slot)), Rest: len(cs.store.rest(c.slot)), Held: cs.store.held(c.slot),
		Queued: c.is(queued),
	}
}
