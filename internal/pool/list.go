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

// Order is what connections are listed by.
type Order int

const (
	ByAge   Order = iota // the oldest first
	ByIdle               // the longest idle first
	ByBytes              // those that have sent the most first
)

var orderNames = []string{ByAge: "age", ByIdle: "idle", ByBytes: "bytes"}

func (o Order) String() string { return orderNames[o] }

// ParseOrder returns the order of that name.
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

// A Query selects and orders connections.
type Query struct {
	By     Order
	Peer   *PeerFilter // only those peers; nil: all
	After  *Mark       // only what comes after this place in the order; nil: all
	Offset int         // how many of those to leave out
	Limit  int         // how many to return at most
}

// A Mark is a place in an order. It is between two connections, and stays there while others come
// and go.
type Mark struct {
	Value uint64 // of the connection before it: its bytes, or the tick that its age or idle time counts from
	FD    int32
}

// A Listing is the answer to a Query.
type Listing struct {
	Conns   []Conn
	Total   int   // connections of all workers
	Matched int   // those of them that match Query.Peer
	Next    *Mark // where the next page begins; nil: this was the last one
}

const (
	// listSlice is how many descriptors a worker looks at per message, which takes it a fraction of
	// a millisecond. Between two slices it does its work.
	listSlice = 4096

	// listPart is how many descriptors the workers look at before List has to take what they have
	// found: 24 bytes per connection, 1.5 MiB in all.
	listPart = 16 * listSlice

	// skipStep is how many connections List leaves out per pass over all of them, so that a high
	// offset takes more time, not more memory: at most twice 24 bytes for each of skipStep and
	// Query.Limit.
	skipStep = 65_536

	// describeSlice is how many connections a worker describes per message, at two system calls
	// each.
	describeSlice = 64
)

// List returns the connections that a query selects, in its order, and among equals by descriptor.
// The workers only copy what is in their slots, in slices between which they do their work; List
// selects and sorts in its caller's goroutine. Connections that come and go meanwhile may be
// missing.
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
			l.Next = &Mark{s.value(last.rank), last.fd}
		}
	}
	l.Conns, err = s.describe(ctx, found)
	return l, err
}

// A selection is what List makes of a query.
type selection struct {
	pool           *Pool
	query          Query
	now            tick
	step           int        // skipStep
	after          *candidate // only those that come after it; nil: all
	best           leaders
	total, matched int // see Listing
}

// find returns the candidates of a page, and one more if there is a next page.
func (s *selection) find(ctx context.Context) ([]candidate, error) {
	if mark := s.query.After; mark != nil {
		s.after = &candidate{life: life{fd: mark.FD}, rank: s.rank(mark.Value)}
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

// rank returns what a connection is ordered by, given its slot's value: the highest rank is first.
// Ages are all measured from one tick, as the workers' clocks differ.
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

// pass goes through all connections, notes the best, and counts all and those that match.
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
			found, err := await(ctx, w, searches[i])
			if err != nil && err != errEnded {
				return err
			}
			for _, slice := range found {
				s.total += len(slice)
				for _, c := range slice {
					// Peer is asked for here, not by the worker. If the descriptor is another
					// connection's by now, describe finds out.
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

// describe has the workers describe their own among the candidates, all at the same time.
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
			if described[i], err = await(ctx, w, answers[i]); err != nil && err != errEnded {
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

// candidate is a connection that may be among the first.
type candidate struct {
	life
	worker int
	rank   int64 // the highest is first
}

func firstBefore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.fd, b.fd))
}

// inSlices has the worker call step once per message, until it returns false or ctx is done. Between
// two calls the worker does its work.
func (w *worker) inSlices(ctx context.Context, step func(w *worker) bool) {
	w.mail.post(message{do: func(w *worker) {
		if ctx.Err() == nil && step(w) {
			w.inSlices(ctx, step)
		}
	}})
}

// search has the worker look at the words from..to of its set, and answer with a slice of
// candidates for each listSlice descriptors. What it does per descriptor is to copy; nothing is
// sorted here.
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

// valueOf is what a connection is ordered by, as it is in its slot.
func valueOf(s *slot, by Order) uint64 {
	switch by {
	case ByAge:
		return uint64(s.opened)
	case ByIdle:
		return uint64(s.since)
	}
	return s.bytes
}

// leaders keeps the first of many candidates.
type leaders struct {
	limit int
	some  []candidate // up to twice as many as are wanted
	least candidate   // none that comes after it can be among the first
	full  bool        // there are enough for least to mean something
}

func (l *leaders) note(c candidate) {
	if l.full && firstBefore(l.least, c) < 0 {
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
		l.least, l.full = l.some[l.limit-1], true
	}
}

func (l *leaders) all() []candidate {
	l.cut()
	return l.some
}

// describeAll has the worker describe candidates of its own. The answer has one Conn for each; it
// is zero for a connection that has ended.
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

// describe returns the zero Conn for a connection that has ended.
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
