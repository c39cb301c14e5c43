package pool

import (
	"runtime"
	"testing"
)

// A worker does not end with a letter unread.
func TestLastLetter(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	read := false
	if !w.mail.post(message{do: func(*worker) { read = true }}) {
		t.Error("a letter is not taken")
	}
	if w.mail.closeIfEmpty() {
		t.Error("the mailbox is closed with a letter in it")
	}
	h.pass()
	if !read {
		t.Error("the letter is not read")
	}
	if !w.mail.closeIfEmpty() {
		t.Error("an empty mailbox is not closed")
	}
	if w.mail.post(message{}) {
		t.Error("a letter is taken that nobody will read")
	}
	w.mail.closed = false
}

func TestLettersAreReadInOrder(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	var read []int
	for i := range 100 {
		w.mail.post(message{do: func(w *worker) {
			if read = append(read, i); i%10 == 0 { // a letter may answer a letter
				w.mail.post(message{do: func(*worker) { read = append(read, -i) }})
			}
		}})
	}
	h.until("all are read", func() bool { return len(read) == 110 })
	for i, n := range read[:100] {
		if n != i {
			t.Fatalf("letter %d was read as number %d", n, i)
		}
	}
}

// What a letter refers to is not kept once it is read.
func TestLettersAreForgotten(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	for range 3 {
		w.mail.post(message{do: func(*worker) { runtime.KeepAlive(h) }})
		h.pass()
	}
	for _, l := range append(w.messages[:cap(w.messages)], w.mail.messages[:cap(w.mail.messages)]...) {
		if l.do != nil {
			t.Error("a letter that was read is kept")
		}
	}
}
