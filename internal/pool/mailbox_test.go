package pool

import (
	"runtime"
	"testing"
)

// A worker does not end with a message unread.
func TestLastLetter(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	read := false
	if !w.mail.post(message{do: func(*worker) { read = true }}) {
		t.Error("a message is not taken")
	}
	if w.mail.closeIfEmpty() {
		t.Error("the mailbox is closed with a message in it")
	}
	h.pass()
	if !read {
		t.Error("the message is not read")
	}
	if !w.mail.closeIfEmpty() {
		t.Error("an empty mailbox is not closed")
	}
	if w.mail.post(message{}) {
		t.Error("a message is taken that nobody will read")
	}
	w.mail.closed = false
}

func TestMessagesAreReadInOrder(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	var read []int
	for i := range 100 {
		w.mail.post(message{do: func(w *worker) {
			if read = append(read, i); i%10 == 0 { // a message may answer a message
				w.mail.post(message{do: func(*worker) { read = append(read, -i) }})
			}
		}})
	}
	h.until("all are read", func() bool { return len(read) == 110 })
	for i, n := range read[:100] {
		if n != i {
			t.Fatalf("message %d was read as number %d", n, i)
		}
	}
}

// What a message refers to is not kept once it is read.
func TestMessagesAreForgotten(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	for range 3 {
		w.mail.post(message{do: func(*worker) { runtime.KeepAlive(h) }})
		h.pass()
	}
	for _, l := range append(w.messages[:cap(w.messages)], w.mail.messages[:cap(w.mail.messages)]...) {
		if l.do != nil {
			t.Error("a message that was read is kept")
		}
	}
}
