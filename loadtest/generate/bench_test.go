package generate

import (
	"fmt"
	"testing"

	"wsecho/loadtest/wire"
)

// BenchmarkTake measures a worker's time per message without system calls: it verifies the replies
// of one read, records their latencies, and schedules the next messages.
func BenchmarkTake(b *testing.B) {
	for _, x := range []struct{ size, inFlight int }{{128, 1}, {128, 16}, {64 << 10, 1}} {
		b.Run(fmt.Sprintf("%d bytes, %d in flight", x.size, x.inFlight), func(b *testing.B) {
			p := &Plan{Mode: Echo, Connections: 1, Workers: 1, InFlight: x.inFlight, Clock: NewClock(nil),
				Payloads: wire.NewPayloadSet([]wire.Portion{{Size: x.size, Weight: 1}}, wire.Binary, x.inFlight)}
			w, err := newWorker(p, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer w.close()
			cs := &w.conns
			cs.period.started, cs.period.from = true, 0
			c := cs.at(0)
			*c.slot = slot{fd: -1, phase: open, rounds: 1}
			cs.open = 1
			n := max(x.inFlight, p.Payloads.Len()) // replies to a whole cycle of the payload set
			var replies [][]byte
			for first := 0; first < n; first += x.inFlight {
				var together []byte
				for i := range x.inFlight {
					together = append(together, reply(b, p.Payloads, uint64(first+i))...)
				}
				replies = append(replies, together)
			}
			cs.schedule(c, x.inFlight)
			b.SetBytes(int64(x.size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				cs.now = int64(i) * 1000
				c.written = c.scheduled
				if !cs.take(c, replies[i%len(replies)]) {
					b.Fatal(cs.counts.Examples)
				}
				cs.latency.record(cs.now, cs.counts)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*x.inFlight), "ns/msg")
		})
	}
}
