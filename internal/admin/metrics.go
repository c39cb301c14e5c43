package admin

import (
	"context"
	"strconv"
	"strings"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"wsecho/internal/pool"
)

// collector tells Prometheus what the pool has counted. It asks when it is asked, and keeps nothing.
type collector struct {
	pool    *pool.Pool
	version Version
	logLost func() uint64
}

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wsecho_"+name, help, labels, nil)
}

var (
	buildInfo = metric("build_info", "Always 1; its labels say what was built, and with which Go.", "version", "commit", "goversion")
	ready     = metric("ready", "1 if new connections are accepted: neither draining nor full. The same as /readyz.")
	draining  = metric("draining", "1 if the server is shutting down: nobody is accepted, and everybody is told 1001.")

	logLost = metric("log_lines_lost_total", "Log lines dropped because stderr was full, broken or closed by its reader.")

	connsOpen    = metric("connections", "Connections that each worker (event loop) has now.", "worker")
	connsLimit   = metric("connections_limit", "Connections that may be open at once (-max-conns).")
	accepted     = metric("connections_accepted_total", "Connections accepted on the listeners, refused ones included.")
	adopted      = metric("connections_adopted_total", "Connections taken over from net/http, such as those to /echo of the admin server.")
	refused      = metric("connections_refused_total", "Connections turned away whatever they asked for: full (-max-conns), per_ip (-max-conns-per-ip), descriptors (none was left), draining.", "reason")
	closed       = metric("connections_closed_total", "Connections that have ended, by how: completed is an orderly close or an answered bad request, disconnected a peer that ended TCP without a close frame, broken mostly a reset.", "reason")
	closeCodes   = metric("close_codes_total", "Connections that ended with a close frame, by the code (RFC 6455, section 7.4) in the last one sent. 1005: it had none. 3xxx and 4xxx stand for all codes of libraries and of applications.", "code")
	handshakes   = metric("handshakes_total", "Opening requests answered, by HTTP status. 101 is a WebSocket; all others are failures.", "status")
	idleTimeouts = metric("idle_timeouts_total", "Connections closed because nothing was heard for -idle-timeout.")

	messages        = metric("messages_echoed_total", "Messages received to their end and sent back.", "opcode")
	framesReceived  = metric("frames_received_total", "WebSocket frames received.", "opcode")
	framesSent      = metric("frames_sent_total", "WebSocket frames sent. A long frame that is echoed as it arrives is one received and several sent.", "opcode")
	payloadReceived = metric("payload_received_bytes_total", "Payload of received frames, by the opcode under which it was sent back.", "opcode")
	payloadSent     = metric("payload_sent_bytes_total", "Payload of sent frames.", "opcode")
	bytesReceived   = metric("network_received_bytes_total", "Bytes read from connections: requests, frame headers and payload.")
	bytesSent       = metric("network_sent_bytes_total", "Bytes written to connections.")
	bytesDiscarded  = metric("network_discarded_bytes_total", "Bytes that arrived after our side of a connection was ended, and were thrown away.")

	wakeups     = metric("worker_wakeups_total", "Returns of epoll_wait. Events divided by wakeups is how many connections are served each time.")
	events      = metric("worker_events_total", "Events that epoll_wait has reported.")
	staleEvents = metric("worker_stale_events_total", "Events for connections that had ended when their turn came.")
	emptyReads  = metric("empty_reads_total", "Reads that found nothing.")

	backpressured  = metric("backpressured_connections", "Connections whose peers do not read what they are sent: they are not read from meanwhile.")
	unsent         = metric("backpressured_bytes", "Bytes that wait for those peers in the server's memory.")
	backpressure   = metric("backpressure_total", "Times that the kernel took less of a reply than all.")
	budgetUsed     = metric("buffer_budget_used_bytes", "Memory held for unfinished frames and unread replies.")
	budgetLimit    = metric("buffer_budget_limit_bytes", "Memory that may be held for them (-buffer-budget).")
	lowMemoryTurns = metric("low_memory_turns_total", "Turns of connections while the buffer budget was spent: frames are cut, and peers that do not read wait in TCP.")
	noDescriptors  = metric("descriptors_exhausted_total", "Times that no descriptor was left to accept a connection. Beside process_open_fds and process_max_fds.")
	acceptErrors   = metric("accept_errors_total", "Other errors of accept4 than a lack of descriptors or memory. The log names the last one; a listener whose error is not about a single connection is left alone for 100 ms.")
	allDescription = []*prometheus.Desc{
		buildInfo, ready, draining, logLost, connsOpen, connsLimit, accepted, adopted, refused, closed, closeCodes, handshakes, idleTimeouts,
		messages, framesReceived, framesSent, payloadReceived, payloadSent, bytesReceived, bytesSent, bytesDiscarded,
		wakeups, events, staleEvents, emptyReads,
		backpressured, unsent, backpressure, budgetUsed, budgetLimit, lowMemoryTurns, noDescriptors, acceptErrors,
	}
)

// opcodes are those that RFC 6455 defines; no frame of another is taken or sent.
var opcodes = []struct {
	op   ws.OpCode
	name string
}{
	{ws.OpContinuation, "continuation"}, {ws.OpText, "text"}, {ws.OpBinary, "binary"},
	{ws.OpClose, "close"}, {ws.OpPing, "ping"}, {ws.OpPong, "pong"},
}

// Describe is for the registry, which checks that nothing else is collected.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allDescription {
		to <- d
	}
}

// Collect asks the workers and tells what they say; if one does not answer in time, nothing of it, for half of
// a sum would look as if the server had begun anew.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	v, p := &c.version, c.pool
	gauge(buildInfo, 1, v.Number, v.Commit, v.Go)
	gauge(ready, asInt(!p.Draining() && !p.Full()))
	gauge(draining, asInt(p.Draining()))
	count(logLost, c.logLost())

	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	s, err := p.Snapshot(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(connsOpen, err)
		return
	}
	for i, n := range s.Workers {
		gauge(connsOpen, n, strconv.Itoa(i))
	}
	gauge(connsLimit, s.MaxConns)
	count(accepted, s.Accepted)
	count(adopted, s.Adopted)
	count(refused, s.RefusedFull, "full")
	count(refused, s.RefusedPerIP, "per_ip")
	count(refused, s.RefusedExhausted, "descriptors")
	count(refused, s.RefusedDraining, "draining")
	for reason, n := range s.Ended {
		count(closed, n, strings.ReplaceAll(pool.Reason(reason).String(), " ", "_"))
	}
	codes, statuses := codesOf(&s.Counters)
	for code, n := range codes {
		count(closeCodes, n, code)
	}
	for status, n := range statuses {
		count(handshakes, n, status)
	}
	count(idleTimeouts, s.IdleTimeouts)

	count(messages, s.Echo.Messages[ws.OpText], "text")
	count(messages, s.Echo.Messages[ws.OpBinary], "binary")
	for _, o := range opcodes {
		count(framesReceived, s.Echo.FramesIn[o.op], o.name)
		count(framesSent, s.Echo.FramesOut[o.op], o.name)
		count(payloadReceived, s.Echo.PayloadIn[o.op], o.name)
		count(payloadSent, s.Echo.PayloadOut[o.op], o.name)
	}
	count(bytesReceived, s.BytesIn)
	count(bytesSent, s.BytesOut)
	count(bytesDiscarded, s.BytesDiscarded)

	count(wakeups, s.Wakeups)
	count(events, s.Events)
	count(staleEvents, s.StaleEvents)
	count(emptyReads, s.EmptyReads)

	gauge(backpressured, s.Backlogged)
	gauge(unsent, s.BacklogBytes)
	count(backpressure, s.Backlogs)
	gauge(budgetUsed, s.BudgetUsed)
	gauge(budgetLimit, s.BudgetLimit)
	count(lowMemoryTurns, s.LowMemoryTurns)
	count(noDescriptors, s.Exhausted)
	count(acceptErrors, s.AcceptErrors)
}

// codesOf parts the codes with which connections ended into those of close frames and HTTP statuses. Of close codes, those
// that peers may make up are put together: there are two thousand.
func codesOf(c *pool.Counters) (codes, statuses map[string]uint64) {
	codes = map[string]uint64{"1000": 0, "1001": 0, "1002": 0, "1007": 0, "1009": 0}
	statuses = map[string]uint64{"101": c.Upgraded, "503": c.RefusedAtOnce}
	for code, n := range c.Codes {
		switch {
		case code < 1000:
			statuses[strconv.Itoa(code)] += n
		case code < 3000:
			codes[strconv.Itoa(code)] += n
		case code < 4000:
			codes["3xxx"] += n
		default:
			codes["4xxx"] += n
		}
	}
	return codes, statuses
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
