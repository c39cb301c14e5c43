package generate

import "wsecho/loadtest/stats"

// latency records latencies. The replies that one read brings are usually to messages that were
// sent in one write: they were due at one time, have one latency, and are recorded together.
type latency struct {
	floor int64 // messages that were due earlier are not recorded
	due   int64 // when the messages were due that have been verified but not recorded
	times int64 // how many they are
}

// next records the messages so far; those that come were due at another time.
func (l *latency) next(due, now int64, counts *stats.Counts) {
	l.record(now, counts)
	l.due = due
}

// record records the messages so far, whose replies came now.
func (l *latency) record(now int64, counts *stats.Counts) {
	if l.times > 0 {
		stats.Record(counts.Latency, now-l.due, l.times)
		l.times = 0
	}
}
