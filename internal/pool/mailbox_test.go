package pool

import (
	"runtime"
	"testing"
)

// A worker closes its mailbox only when it has read all messages.
func TestMailboxClosesOnlyWhenEmpty(t *testing.T) {
	h := newHarness(t)
	w := h.workers[0]
	read := false
	if !w.mail.post(message{do: func(*worker) { read = true }}) {
		t.Error("post is false, want true")
	}
	if w.mail.closeIfEmpty() {
		t.Error("closeIfEmpty is true with a message in the mailbox, want false")
	}
	h.pass()
	if !read {
		t.Error("the worker has not read the message")
	}
	if !w.mail.closeIfEmpty() {
		t.Error("closeIfEmpty is false for an empty mailbox, want true")
	}
	if w.mail.post(message{}) {
		t.Error("post to a closed mailbox is true, want false")
	}
	w.mail.closed = false
}

func TestMessagesAreReadInOrder(t *testing.T) {
	h := newHarness(t)
	w := h.workers[0]
	var read []int
	for i := range 100 {
		w.mail.post(message{do: func(w *worker) {
			if read = append(read, i); i%10 == 0 { // a message may post another
				w.mail.post(message{do: func(*worker) { read = append(read, -i) }})
			}
		}})
	}
	h.until("all messages are read", func() bool { return len(read) == 110 })
	for i, n := range read[:100] {
		if n != i {
			t.Fatalf("message %d was read at position %d", n, i)
		}
	}
}

// A message is released once it is read.
func TestReadMessagesAreReleased(t *testing.T) {
	h := newHarness(t)
	w := h.workers[0]
	for range 3 {
		w.mail.post(message{do: func(*worker) { runtime.KeepAlive(h) }})
		h.pass()
	}
	for _, m := range append(w.messages[:cap(w.messages)], w.mail.messages[:cap(w.mail.messages)]...) {
		if m.do != nil {
			t.Error("a message is still referenced after it was read")
		}
	}
}
