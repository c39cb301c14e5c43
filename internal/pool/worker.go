package pool

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// eventBatch is how many events a wait returns at the most. More in one call
// would save little and let the last of them wait longer.
const eventBatch = 256

// listenerGen is the generation of listeners in events; no slot has it.
const listenerGen = 0

// A worker is an event loop. All of it but the last group belongs to
// the goroutine of run.
type worker struct {
	pool     *Pool
	index    int // among the pool's workers
	poller   *netpoll.Poller
	endpoint *echo.Endpoint
	count    Counters

	buffer []byte      // where turns are taken; it is empty between them
	work   echo.Buffer // see open
	events []netpoll.Event

	spare      block // see takeSpare
	spareTaken bool
	hoarder    *slot  // if the spare is taken: who has it
	scratch    []byte // see take
	untidy     bool   // the arena may have pages to give back

	now     tick
	queue   []life   // connections that go on at the next pass: see goOn
	letters []letter // being read
	mine    fdSet    // connections
	timed   deadlines

	spares    int    // connections that are only to be refused
	watched   []bool // by listener: whether the worker accepts from it
	listening bool   // from all of them
	deaf      tick   // if not listening: when to listen again, after an error of accept4
	draining  bool
	hurried   bool // if draining: hurryAt is over
	hurryAt   tick // when everybody is told, whatever is still unanswered
	cutAt     tick // when what is left is closed

	backlog backlog                  // of all connections: see snapshot.go
	peers   map[int32]netip.AddrPort // of connections, if somebody wants to hear of their end

	failure error         // why it could not go on; to be looked at once ended is closed
	ended   chan struct{} // closed when the worker has: it touches nothing any more, and reads no letter

	_     [64]byte // what others write is not on the cache lines of what the owner reads
	mail  mailbox
	conns atomic.Int64 // connections that belong to the worker or are on their way to it
}

// life is one life of a descriptor.
type life struct {
	fd  int32
	gen uint32
}

func newWorker(p *Pool) (*worker, error) {
	w := &worker{
		pool:     p,
		index:    len(p.workers),
		endpoint: echo.New(p.cfg.Echo),
		buffer:   make([]byte, p.cfg.BufferSize),
		events:   make([]netpoll.Event, eventBatch),
		spare:    p.arena.alloc(p.cfg.BufferSize),
		scratch:  make([]byte, frugalRead),
		watched:  make([]bool, len(p.listeners)),
		now:      p.clock(),
		ended:    make(chan struct{}),
	}
	w.count.init()
	if err := w.acquire(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// acquire opens what the worker needs of the system. After an error close closes what there is of it.
func (w *worker) acquire() (err error) {
	if w.mine, err = reserve[uint64](w.pool.cfg.MaxFDs/64 + 1); err != nil {
		return err
	}
	if w.timed.set, err = reserve[uint64](w.pool.cfg.MaxFDs/64 + 1); err != nil {
		return err
	}
	if w.poller, err = netpoll.New(); err != nil {
		return err
	}
	return w.listen()
}

func (w *worker) close() {
	if w.poller != nil {
		w.poller.Close()
	}
	unreserve(w.mine)
	unreserve(w.timed.set)
}

// run is the loop. It returns when the worker has been told to drain and its last
// connection is gone.
func (w *worker) run() error {
	defer w.abandonMail()
	for {
		if err := w.pass(w.patience()); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		if w.draining && w.conns.Load() == 0 && w.closeMail() {
			return nil
		}
	}
}

// pass waits for something to happen, not longer than patience, and does all
// that follows from it. The clock is read once.
func (w *worker) pass(patience time.Duration) error {
	n, woken, err := w.poller.Wait(w.events, patience)
	if err != nil {
		return err
	}
	w.now = w.pool.clock()
	w.count.Wakeups++
	w.count.Events += uint64(n)
	if woken {
		w.readMail()
	}
	for i := range w.events[:n] {
		w.event(&w.events[i])
	}
	w.runQueue()
	w.sweep()
	return nil
}

// patience is how long there will be nothing to do if nothing happens.
func (w *worker) patience() time.Duration {
	switch {
	case len(w.queue) > 0:
		return 0
	case w.timed.n > 0 || w.draining || !w.listening || w.untidy:
		return sweepTime
	}
	return -1
}

// event handles one event.
func (w *worker) event(e *netpoll.Event) {
	if e.Gen() == listenerGen {
		w.accept(e.FD())
		return
	}
	fd := e.FD()
	s := w.slotOf(life{int32(fd), e.Gen()})
	if s == nil {
		w.count.StaleEvents++ // of a connection that was closed earlier in this batch
		return
	}
	if e.Ended() {
		s.set(ended)
	}
	if e.Readable() {
		s.set(unread)
	}
	if e.Writable() && w.hasUnsent(s) {
		w.drainBacklog(fd, s)
	} else {
		w.turn(fd, s)
	}
	if w.draining {
		w.seeOff(life{e.Fd, e.Gen()})
	}
}

// slotOf is the slot of a connection that may have ended since; nil if it
// has. The descriptor may be another worker's by now, so that even the generation in its slot is
// not to be looked at before it is known to be ours.
func (w *worker) slotOf(l life) *slot {
	if s := &w.pool.slots[l.fd]; w.mine.has(int(l.fd)) && s.gen == l.gen {
		return s
	}
	return nil
}

// goOn puts a connection in the queue of those that have more to read or to write, but
// have had their turn.
func (w *worker) goOn(fd int, s *slot) {
	if !s.is(queued) {
		s.set(queued)
		w.queue = append(w.queue, life{int32(fd), s.gen})
	}
}

// runQueue gives a turn to each connection that was in the queue when it
// began.
func (w *worker) runQueue() {
	n := len(w.queue)
	for _, l := range w.queue[:n] {
		if s := w.slotOf(l); s != nil {
			s.clear(queued)
			w.turn(int(l.fd), s)
			if w.draining {
				w.seeOff(l)
			}
		}
	}
	w.queue = w.queue[:copy(w.queue, w.queue[n:])]
}
