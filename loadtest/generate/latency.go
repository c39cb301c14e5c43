package generate

import "wsecho/loadtest/stats"

// latency records latencies. Replies that arrive in one read usually belong to messages that were
// due at the same time. They have the same latency and are recorded together.
type latency struct {
	floor int64 // messages that were due before this time are not recorded
	due   int64 // when the verified, unrecorded messages were due
	times int64 // their number
}

// next records the messages so far. The ones that follow were due at another time.
func (l *latency) next(due, now int64, counts *stats.Counts) {
	l.record(now, counts)
	l.due = due
}

// record records the messages so far. Their replies arrived at now.
func (l *latency) record(now int64, counts *stats.Counts) {
	if l.times > 0 {
		stats.Record(counts.Latency, now-l.due, l.times)
		l.times = 0
	}
}
