package generate

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"

	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

// A reply to a message that has not been sent is wrong, even if it is the one that would be right
// later.
func TestReplyToAMessageThatWasNotSent(t *testing.T) {
	p := &Plan{Mode: Echo, Connections: 1, Workers: 1, InFlight: 16, Clock: NewClock(nil),
		Payloads: wire.NewPayloadSet([]wire.Portion{{Size: 128, Weight: 1}}, wire.Binary, 16)}
	for done := range uint64(p.Payloads.Len()) {
		w, err := newWorker(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		// The message before it has been begun, and its reply has come already.
		cs := &w.conns
		done += uint64(p.Payloads.Len())
		c := cs.at(0)
		*c.slot = slot{fd: -1, phase: open, asked: done + 16, written: done - 1, done: done, offset: 40, rounds: 1}
		cs.open = 1
		cs.take(c, reply(t, p.Payloads, done))
		if cs.counts.Faults[stats.Unasked] != 1 || cs.counts.Messages != 0 {
			t.Errorf("message %d: %d replies are counted, faults %v", done, cs.counts.Messages, cs.counts.Faults)
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
