package pool

import (
	"net/netip"
	"sync"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// mailbox is where others leave what they want of a worker.
type mailbox struct {
	mu      sync.Mutex // protects all
	letters []letter
	closed  bool // the worker has ended and reads no more
}

// letter is a connection that arrives, or something to be done.
type letter struct {
	arrival arrival
	do      func(*worker) // if not nil
}

// arrival is a connection that a worker is to make its own. It has been
// counted among the worker's already.
type arrival struct {
	fd      int
	peer    netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	source  uint32         // see perIP.countIn
	proto   echo.State
	read    []byte        // what has been read from it
	adopted bool          // it comes from Adopt
	refusal *echo.Refusal // if not nil, it is only to be told so, and is not counted against MaxConns
}

// post leaves a letter and wakes the worker. It says whether the worker will
// read it. The worker is woken before it can have read the letter, for it might be its last, and
// its poller be closed.
func (w *worker) post(l letter) bool {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	if w.mail.closed {
		return false
	}
	w.mail.letters = append(w.mail.letters, l)
	w.poller.Wake()
	return true
}

// readMail does what the letters say. The two slices of letters take turns, so
// that none is allocated for each wake.
func (w *worker) readMail() {
	w.mail.mu.Lock()
	w.letters, w.mail.letters = w.mail.letters, w.letters[:0]
	w.mail.mu.Unlock()
	for i, l := range w.letters {
		if l.do != nil {
			l.do(w)
		} else {
			w.admit(l.arrival)
		}
		w.letters[i] = letter{}
	}
}

// abandonMail ends the mailbox whatever is in it: the worker has ended. Connections
// that nobody will take are closed. Whoever waits for an answer hears of the end by w.ended.
func (w *worker) abandonMail() {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.closed = true
	for _, l := range w.mail.letters {
		if l.do == nil {
			w.turnBack(l.arrival)
		}
	}
	w.mail.letters = nil
}

// turnBack closes an arrival that the worker cannot make its own.
func (w *worker) turnBack(a arrival) {
	w.pool.countOut(a.source)
	w.conns.Add(-1)
	w.count.Ended[InternalFailed]++
	netpoll.Close(a.fd)
}

// ask has a worker answer a question between two turns. A worker that has ended, or
// does so with the question unread, does not answer: whoever waits for that looks at w.ended, too.
func ask[T any](w *worker, question func(*worker) T) <-chan T {
	answer := make(chan T, 1)
	w.post(letter{do: func(w *worker) { answer <- question(w) }})
	return answer
}

// closeMail ends the mailbox if there is nothing in it.
func (w *worker) closeMail() bool {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.closed = len(w.mail.letters) == 0
	return w.mail.closed
}
