package admin

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"wsecho/internal/pool"
)

// promlint, which promtool uses, finds no problem in the metrics.
func TestMetricsPassPromlint(t *testing.T) {
	h := newHarness(t)
	h.says(h.dials(h.front), maskedHello, hello)
	problems, err := promlint.New(strings.NewReader(h.wants("/metrics", http.StatusOK, ""))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "wsecho_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Every described metric is exported with a help text, and no other wsecho metric is.
func TestEveryMetricIsExportedWithHelp(t *testing.T) {
	h := newHarness(t)
	h.says(h.dials(h.front), maskedHello, hello)
	metrics := h.wants("/metrics", http.StatusOK, "")
	for _, d := range allDescription {
		name := d.String()
		name = name[strings.Index(name, `"`)+1:]
		name = name[:strings.Index(name, `"`)]
		if !strings.Contains(metrics, "\n"+name+" ") && !strings.Contains(metrics, "\n"+name+"{") {
			t.Errorf("%s is not exported", name)
		}
		_, help, _ := strings.Cut(metrics, "# HELP "+name+" ")
		if help, _, _ = strings.Cut(help, "\n"); len(help) < 20 {
			t.Errorf("%s has the help text %q, want at least 20 bytes", name, help)
		}
	}
	if ours := strings.Count(metrics, "# TYPE wsecho_"); ours != len(allDescription) {
		t.Errorf("got %d wsecho metrics, want %d", ours, len(allDescription))
	}
}

// knocks sends a request without upgrade to the pool's listener, and checks the status.
func (h *harness) knocks(status int) {
	h.t.Helper()
	response, err := http.Get("http://" + h.front)
	if err != nil {
		h.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != status {
		h.t.Errorf("got status %s, want %d", response.Status, status)
	}
}

// The metrics have the values that follow from a few connections.
func TestMetricsHaveExpectedValues(t *testing.T) {
	h := newHarness(t, func(cfg *pool.Config) { cfg.MaxConns = 2 })
	c, adopted := h.dials(h.front), h.dials(h.addr)
	h.says(c, maskedHello+"\x82\x83\x00\x00\x00\x00abc\x89\x80\x00\x00\x00\x00", hello+"\x82\x03abc\x8a\x00")
	h.says(adopted, maskedHello, hello)
	h.knocks(http.StatusServiceUnavailable)
	h.says(c, "\x88\x82\x00\x00\x00\x00\x0f\xa5", "\x88\x02\x0f\xa5") // 4005
	adopted.Close()
	c.Close()
	waitFor(t, "both connections have ended", func() bool { return h.pool.Open() == 0 })
	h.knocks(http.StatusUpgradeRequired)
	waitFor(t, "the refused connections have ended", func() bool { return counters(t, h.pool).Codes[426] == 1 && counters(t, h.pool).Codes[503] == 1 })
	metrics := h.wants("/metrics", http.StatusOK, "")
	for _, want := range []string{
		`wsecho_build_info{commit="abc",goversion="go1.26",version="1.2.3"} 1`,
		`wsecho_ready 1`,
		`wsecho_draining 0`,
		`wsecho_log_lines_lost_total 7`,
		`wsecho_connections{worker="0"} 0`,
		`wsecho_connections{worker="1"} 0`,
		`wsecho_connections_limit 2`,
		`wsecho_connections_accepted_total 3`,
		`wsecho_connections_adopted_total 1`,
		`wsecho_connections_refused_total{reason="full"} 1`,
		`wsecho_connections_refused_total{reason="per_ip"} 0`,
		`wsecho_connections_closed_total{reason="completed"} 3`,
		`wsecho_connections_closed_total{reason="disconnected"} 1`,
		`wsecho_connections_closed_total{reason="write_timeout"} 0`,
		`wsecho_close_codes_total{code="4xxx"} 1`,
		`wsecho_handshakes_total{status="101"} 2`,
		`wsecho_handshakes_total{status="426"} 1`,
		`wsecho_handshakes_total{status="503"} 1`,
		`wsecho_messages_echoed_total{opcode="text"} 2`,
		`wsecho_messages_echoed_total{opcode="binary"} 1`,
		`wsecho_frames_received_total{opcode="ping"} 1`,
		`wsecho_frames_sent_total{opcode="pong"} 1`,
		`wsecho_payload_received_bytes_total{opcode="text"} 10`,
		`wsecho_payload_sent_bytes_total{opcode="binary"} 3`,
		`wsecho_backpressured_connections 0`,
		`wsecho_buffer_budget_used_bytes 0`,
		`wsecho_buffer_budget_limit_bytes 1.6777216e+07`,
	} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("/metrics has no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(metrics)
	}
}

// Close codes that peers may choose freely are combined into two time series. Responses with the
// page are not handshakes.
func TestCodesAreGrouped(t *testing.T) {
	c := pool.Counters{Upgraded: 9, RefusedAtOnce: 2, Codes: map[int]uint64{200: 10, 304: 11, 400: 1, 503: 3, 1001: 4, 3000: 5, 3999: 6, 4000: 7, 4999: 8}}
	codes, handshakes, pages := codesOf(&c)
	wantCodes := map[string]uint64{"1000": 0, "1001": 4, "1002": 0, "1007": 0, "1009": 0, "3xxx": 11, "4xxx": 15}
	wantHandshakes := map[string]uint64{"101": 9, "400": 1, "503": 5}
	wantPages := map[string]uint64{"200": 10, "304": 11}
	if !reflect.DeepEqual(codes, wantCodes) || !reflect.DeepEqual(handshakes, wantHandshakes) || !reflect.DeepEqual(pages, wantPages) {
		t.Errorf("got codes %v, handshakes %v and pages %v, want %v, %v and %v", codes, handshakes, pages, wantCodes, wantHandshakes, wantPages)
	}
}

// The pedantic registry checks that collected metrics match their descriptions.
func TestCollectorPassesPedanticRegistry(t *testing.T) {
	h := newHarness(t)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(&collector{h.pool, h.server.cfg.Version, h.server.cfg.LogLost})
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

// Forty simultaneous scrapes all get the complete metrics.
func TestSimultaneousScrapes(t *testing.T) {
	h := newHarness(t)
	h.says(h.dials(h.front), maskedHello, hello)
	h.atOnce(40, "/metrics", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "\n"+`wsecho_messages_echoed_total{opcode="text"} 1`+"\n") {
			t.Errorf("got status %s, body %.200q; want complete metrics", response.Status, body)
		}
	})
}

// A worker that hangs delays every scrape by one or two seconds, not by 1 s per scrape before it.
func TestSimultaneousScrapesWithHangingWorker(t *testing.T) {
	h := hangingHarness(t)
	h.atOnce(40, "/metrics", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "go_goroutines") {
			t.Errorf("got status %s, body %.200q; want metrics of the Go runtime", response.Status, body)
		}
	})
}

// Scrapers that do not read, even if they are more than scrapesMost, do not block others: a
// response that the kernel does not take is dropped after the write timeout.
func TestScrapersThatDoNotReadDoNotBlockOthers(t *testing.T) {
	h := newHarness(t)
	for range scrapesMost + 20 {
		h.stalls("/metrics")
	}
	h.wants("/metrics", http.StatusOK, "wsecho_connections")
}
