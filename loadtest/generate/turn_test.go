package generate

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"

	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// A reply that arrives before its message has been sent is a fault, even if its bytes are right.
func TestReplyBeforeItsMessageIsAFault(t *testing.T) {
	p := &Plan{Mode: Echo, Connections: 1, Workers: 1, InFlight: 16, Clock: NewClock(nil),
		Payloads: wire.NewPayloadSet([]wire.Portion{{Size: 128, Weight: 1}}, wire.Binary, 16)}
	for done := range uint64(p.Payloads.Len()) {
		w, err := newWorker(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		// The message before it has been sent in part, and its reply has arrived.
		cs := &w.conns
		done += uint64(p.Payloads.Len())
		c := cs.at(0)
		*c.slot = slot{fd: -1, phase: open, scheduled: done + 16, written: done - 1, done: done, offset: 40, rounds: 1}
		cs.open = 1
		cs.take(c, reply(t, p.Payloads, done))
		if cs.counts.Faults[stats.Unasked] != 1 || cs.counts.Messages != 0 {
			t.Errorf("message %d: got %d verified replies and faults %v, want none and 1 unasked", done, cs.counts.Messages, cs.counts.Faults)
		}
		w.close()
	}
}

// reply returns the reply to message n of the connection with base 0.
func reply(t testing.TB, payloads *wire.PayloadSet, n uint64) []byte {
	t.Helper()
	sent, _ := payloads.Run(0, n, 1, 0)
	h, err := ws.ReadHeader(bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	payload := bytes.Clone(sent[len(sent)-int(h.Length):])
	ws.Cipher(payload, h.Mask, 0)
	return ws.MustCompileFrame(ws.NewFrame(h.OpCode, true, payload))
}
