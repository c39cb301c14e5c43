package pool

import (
	"sync"

	"wsecho/internal/echo"
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
	source  uint32 // see perIP.countIn
	proto   echo.State
	read    []byte        // what has been read from it
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

// abandonMail ends the mailbox whatever is in it: the worker has ended.
func (w *worker) abandonMail() {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.closed = true
}

// closeMail ends the mailbox if there is nothing in it.
func (w *worker) closeMail() bool {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.closed = len(w.mail.letters) == 0
	return w.mail.closed
}
