package generate

import "wsecho/internal/netpoll"

// mailboxSize is the number of messages that the mailbox holds before the sender blocks.
const mailboxSize = 16

// A mailbox holds messages from other goroutines to a worker. A message is a function, which runs
// on the worker's goroutine.
type mailbox struct {
	poller   *netpoll.Poller // the worker's; post wakes it
	messages chan func()
	finished chan struct{} // closed when the worker has ended and reads no more messages
}

func newMailbox(poller *netpoll.Poller) mailbox {
	return mailbox{poller, make(chan func(), mailboxSize), make(chan struct{})}
}

// post adds a message and wakes the worker. If the worker has ended, the message is dropped.
func (m *mailbox) post(message func()) {
	select {
	case m.messages <- message:
		m.poller.Wake()
	case <-m.finished:
	}
}

// read runs the messages that have been posted.
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
