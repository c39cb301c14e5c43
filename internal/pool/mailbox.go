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

	mu       sync.Mutex // protects the rest
	messages []message
	closed   bool // the worker has ended, and reads no more
}

// A message is an arriving connection, or something to do.
type message struct {
	arrival arrival
	do      func(*worker) // if not nil
}

// An arrival is a connection that a worker is to own. It is part of the worker's load already.
type arrival struct {
	fd      int
	peer    netip.AddrPort // the zero AddrPort if it has none, as on a unix socket
	source  uint32         // see census.in
	proto   echo.State
	read    []byte        // bytes that were read from it already
	adopted bool          // it comes from Adopt
	refusal *echo.Refusal // if not nil, the connection is only to be refused, and is not counted
}

// post leaves a message and wakes the worker. It reports whether the worker will read it. The wake
// comes before the worker can have read the message, because that might be its last, and its
// poller be closed.
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

// take returns the messages. It reuses the memory of those taken before, which are cleared.
func (m *mailbox) take(before []message) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.messages
	m.messages = before[:0]
	return taken
}

// closeIfEmpty closes the mailbox if there is no message in it, and reports whether it did.
func (m *mailbox) closeIfEmpty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = len(m.messages) == 0
	return m.closed
}

// abandon closes the mailbox and returns the messages that will not be read.
func (m *mailbox) abandon() []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	unread := m.messages
	m.messages = nil
	return unread
}

// ask has a worker answer a question between two turns. If the worker ends with the question
// unread there is no answer: see await.
func ask[T any](w *worker, question func(*worker) T) <-chan T {
	answer := make(chan T, 1)
	w.mail.post(message{do: func(w *worker) { answer <- question(w) }})
	return answer
}

// errEnded is the error of await if the worker has ended.
var errEnded = errors.New("the worker has ended")

// await waits for a worker's answer. Its error is errEnded if the worker has ended, after which
// nothing of the worker changes and any goroutine may read it; or the cause of ctx's end.
func await[T any](ctx context.Context, w *worker, answer <-chan T) (none T, err error) {
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

// askAll asks every worker a question at once, and waits for the answers. A worker that has ended
// answers on the caller's goroutine. The error is the cause of ctx's end.
func askAll[T any](ctx context.Context, workers []*worker, question func(*worker) T) ([]T, error) {
	waiting := make([]<-chan T, len(workers))
	for i, w := range workers {
		waiting[i] = ask(w, question)
	}
	answers := make([]T, len(workers))
	for i, w := range workers {
		var err error
		if answers[i], err = await(ctx, w, waiting[i]); err == errEnded {
			answers[i] = question(w)
		} else if err != nil {
			return nil, err
		}
	}
	return answers, nil
}
