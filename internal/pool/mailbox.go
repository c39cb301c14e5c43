package pool

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"wsecho/internal/echo"
	"wsecho/internal/netpoll"
)

// mailbox holds messages from other goroutines to a worker.
type mailbox struct {
	poller *netpoll.Poller // woken by post

	mu       sync.Mutex // protects the fields below
	messages []message
	closed   bool // the worker has ended, and reads no more messages
}

// A message is an arriving connection, or a function to call.
type message struct {
	arrival arrival
	do      func(*worker) // nil: the message is the arrival
}

// An arrival is a connection on its way to its worker. It is already part of the worker's load.
type arrival struct {
	fd      int
	peer    netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	source  uint32         // see census.in
	proto   echo.State
	read    []byte        // bytes that have already been read from it
	adopted bool          // it was passed to Adopt
	refusal *echo.Refusal // unless nil, the connection is only to be refused, and is not counted
}

// post adds a message and wakes the worker. It reports whether the worker will read the message. It
// wakes the worker before unlocking mu: afterwards the worker might read its last message, end, and
// close the poller.
func (m *mailbox) post(x message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.messages = append(m.messages, x)
	m.poller.Wake()
	return true
}

// take removes and returns all messages. It reuses the memory of before, a cleared result of take.
func (m *mailbox) take(before []message) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.messages
	m.messages = before[:0]
	return taken
}

// closeIfEmpty closes the mailbox if it is empty, and reports whether it was.
func (m *mailbox) closeIfEmpty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = len(m.messages) == 0
	return m.closed
}

// abandon closes the mailbox and returns the messages that the worker will not read.
func (m *mailbox) abandon() []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	unread := m.messages
	m.messages = nil
	return unread
}

// ask has a worker answer a question between two turns. If the worker ends before it reads the
// question there is no answer: see waitForAnswer.
func ask[T any](w *worker, question func(*worker) T) <-chan T {
	answer := make(chan T, 1)
	w.mail.post(message{do: func(w *worker) { answer <- question(w) }})
	return answer
}

// errEnded is the error of waitForAnswer if the worker has ended.
var errEnded = errors.New("the worker has ended")

// waitForAnswer waits for a worker's answer. The error is the cause of ctx's end, or errEnded if
// the worker has ended; from then on the worker does not change, and any goroutine may read its
// fields.
func waitForAnswer[T any](ctx context.Context, w *worker, answer <-chan T) (none T, err error) {
	select {
	case x := <-answer:
		return x, nil // even if ctx is done by now
	default:
	}
	select {
	case x := <-answer:
		return x, nil
	case <-w.ended:
		return none, errEnded
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// askAll asks all workers a question at the same time, and waits for the answers. For a worker that
// has ended, it answers in the caller's goroutine. The error is the cause of ctx's end.
func askAll[T any](ctx context.Context, workers []*worker, question func(*worker) T) ([]T, error) {
	waiting := make([]<-chan T, len(workers))
	for i, w := range workers {
		waiting[i] = ask(w, question)
	}
	answers := make([]T, len(workers))
	for i, w := range workers {
		var err error
		if answers[i], err = waitForAnswer(ctx, w, waiting[i]); err == errEnded {
			answers[i] = question(w)
		} else if err != nil {
			return nil, err
		}
	}
	return answers, nil
}
