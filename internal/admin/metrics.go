package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"wsecho/internal/pool"
)

// collector implements prometheus.Collector for the pool's counters. It asks the pool at each
// scrape, and stores nothing.
type collector struct {
	pool    *pool.Pool
	version Version
	logLost func() uint64
}

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wsecho_"+name, help, labels, nil)
}

var (
	buildInfo = metric("build_info", "Always 1; the labels are the program's version, its commit and the Go version that built it.", "version", "commit", "goversion")
	ready     = metric("ready", "1 if new connections are accepted, which means that the server is neither draining nor full; otherwise 0. The same as /readyz.")
	draining  = metric("draining", "1 while the server is shutting down: it accepts no connections and closes existing ones with 1001; otherwise 0.")

	logLost = metric("log_lines_lost_total", "Log lines dropped because stderr was full, failing or closed by its reader.")

	connsOpen    = metric("connections", "Open connections of each worker (event loop).", "worker")
	connsLimit   = metric("connections_limit", "Maximum number of open connections (-max-conns).")
	accepted     = metric("connections_accepted_total", "Connections accepted on the listeners, including those refused afterwards.")
	adopted      = metric("connections_adopted_total", "Connections taken over from net/http, such as those to /echo of the admin server.")
	refused      = metric("connections_refused_total", "Connections refused regardless of their request: full (-max-conns), per_ip (-max-conns-per-ip), descriptors (out of descriptors or memory), draining.", "reason")
	closed       = metric("connections_closed_total", "Closed connections by reason: completed is a close handshake or a refused request, disconnected is a FIN without a close frame, broken is mostly a reset.", "reason")
	closeCodes   = metric("close_codes_total", "Connections closed with a close frame, by the code (RFC 6455, section 7.4) of the frame that the server sent. 1005: without a code. 3xxx and 4xxx: all codes of libraries and applications.", "code")
	pages        = metric("page_responses_total", "Requests of browsers answered with the console page (-console), by HTTP status. 200: with the page; 304: the browser has it.", "status")
	handshakes   = metric("handshakes_total", "Opening handshakes answered, by HTTP status. 101 is a success; all others are failures.", "status")
	idleTimeouts = metric("idle_timeouts_total", "Connections closed because the peer was silent for -idle-timeout.")

	messages        = metric("messages_echoed_total", "Messages received completely and echoed.", "opcode")
	framesReceived  = metric("frames_received_total", "WebSocket frames received.", "opcode")
	framesSent      = metric("frames_sent_total", "WebSocket frames sent. A long frame is echoed in fragments as it arrives: one frame received, several sent.", "opcode")
	payloadReceived = metric("payload_received_bytes_total", "Payload of received frames, by the opcode under which it was echoed.", "opcode")
	payloadSent     = metric("payload_sent_bytes_total", "Payload of sent frames.", "opcode")
	bytesReceived   = metric("network_received_bytes_total", "Bytes read from connections: requests, frame headers and payload.")
	bytesSent       = metric("network_sent_bytes_total", "Bytes written to connections.")
	bytesDiscarded  = metric("network_discarded_bytes_total", "Bytes discarded because they arrived after the server had shut down its side of the connection.")

	wakeups     = metric("worker_wakeups_total", "Returns of epoll_wait. Events divided by wakeups is the number of connections served per wakeup.")
	events      = metric("worker_events_total", "Events reported by epoll_wait.")
	staleEvents = metric("worker_stale_events_total", "Events for connections that had already been closed.")
	emptyReads  = metric("empty_reads_total", "Reads that returned no data.")

	backpressured  = metric("backpressured_connections", "Connections with a write backlog because the peer reads too slowly. The server does not read from them.")
	unsent         = metric("backpressured_bytes", "Bytes in the write backlogs of those connections.")
	backpressure   = metric("backpressure_total", "Times that the kernel accepted only part of a reply.")
	budgetUsed     = metric("buffer_budget_used_bytes", "Memory held for incomplete frames and write backlogs.")
	budgetLimit    = metric("buffer_budget_limit_bytes", "Maximum of that memory (-buffer-budget).")
	lowMemoryTurns = metric("low_memory_turns_total", "Turns of connections while the buffer budget was used up: frames are echoed in fragments, and slow readers are throttled by TCP.")
	noDescriptors  = metric("descriptors_exhausted_total", "Times that accept4 failed for lack of descriptors or memory. Compare process_open_fds and process_max_fds.")
	acceptErrors   = metric("accept_errors_total", "accept4 errors other than a lack of descriptors or memory. The log has the last one. Unless the error concerns a single connection, the worker ignores the listener for 100 ms.")
	allDescription = []*prometheus.Desc{
		buildInfo, ready, draining, logLost, connsOpen, connsLimit, accepted, adopted, refused, closed, closeCodes, handshakes, pages, idleTimeouts,
		messages, framesReceived, framesSent, payloadReceived, payloadSent, bytesReceived, bytesSent, bytesDiscarded,
		wakeups, events, staleEvents, emptyReads,
		backpressured, unsent, backpressure, budgetUsed, budgetLimit, lowMemoryTurns, noDescriptors, acceptErrors,
	}
)

// opcodes are those that RFC 6455 defines; frames with others are neither accepted nor sent.
var opcodes = []struct {
	op   ws.OpCode
	name string
}{
	{ws.OpContinuation, "continuation"}, {ws.OpText, "text"}, {ws.OpBinary, "binary"},
	{ws.OpClose, "close"}, {ws.OpPing, "ping"}, {ws.OpPong, "pong"},
}

// Describe implements prometheus.Collector. The registry checks that nothing else is collected.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allDescription {
		to <- d
	}
}

// Collect implements prometheus.Collector. If a worker does not answer within answerTimeout, it
// omits all metrics that are sums over the workers: a partial sum would look like a counter reset.
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
	codes, statuses, shown := codesOf(&s.Counters)
	for code, n := range codes {
		count(closeCodes, n, code)
	}
	for status, n := range statuses {
		count(handshakes, n, status)
	}
	for status, n := range shown {
		count(pages, n, status)
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

// codesOf separates close codes, statuses of handshakes and statuses of responses with the page. It
// combines the 2000 close codes that peers may choose freely into two, to limit the number of time
// series.
func codesOf(c *pool.Counters) (codes, handshakes, pages map[string]uint64) {
	codes = map[string]uint64{"1000": 0, "1001": 0, "1002": 0, "1007": 0, "1009": 0}
	handshakes = map[string]uint64{"101": c.Upgraded, "503": c.RefusedAtOnce}
	pages = map[string]uint64{"200": 0, "304": 0}
	for code, n := range c.Codes {
		switch {
		case code == http.StatusOK, code == http.StatusNotModified:
			pages[strconv.Itoa(code)] += n
		case code < 1000:
			handshakes[strconv.Itoa(code)] += n
		case code < 3000:
			codes[strconv.Itoa(code)] += n
		case code < 4000:
			codes["3xxx"] += n
		default:
			codes["4xxx"] += n
		}
	}
	return codes, handshakes, pages
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
