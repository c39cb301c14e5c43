package generate

import "wsecho/internal/netpoll"

// mailboxSize is the number of messages that do not make the sender wait.
const mailboxSize = 16

// A mailbox holds messages from other goroutines to a worker. A message is a function, which runs
// on the worker's goroutine.
type mailbox struct {
	poller   *netpoll.Poller // woken by post
	messages chan func()
	finished chan struct{} // closed when the worker has ended: it reads no more messages
}

func newMailbox(poller *netpoll.Poller) mailbox {
	return mailbox{poller, make(chan func(), mailboxSize), make(chan struct{})}
}

// post leaves a message and wakes the worker. A worker that has ended does not read it.
func (m *mailbox) post(message func()) {
	select {
	case m.messages <- message:
		m.poller.Wake()
	case <-m.finished:
	}
}

// read does what the messages say.
func (m *mailbox) read() {
	for {
		select {
		case message := <-m.messages:
			message()
		default:
			return
		}
	}
}
