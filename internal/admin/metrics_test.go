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

// What promtool says of the metrics of a server that has been used.
func TestMetricsAreClean(t *testing.T) {
	o := opens(t)
	o.says(o.dials(o.front), maskedHello, hello)
	problems, err := promlint.New(strings.NewReader(o.wants("/metrics", http.StatusOK, ""))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "wsecho_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Everything that is described is there, and explained, and nothing else is ours.
func TestEveryMetricIsThere(t *testing.T) {
	o := opens(t)
	o.says(o.dials(o.front), maskedHello, hello)
	metrics := o.wants("/metrics", http.StatusOK, "")
	for _, d := range allDescription {
		name := d.String()
		name = name[strings.Index(name, `"`)+1:]
		name = name[:strings.Index(name, `"`)]
		if !strings.Contains(metrics, "\n"+name+" ") && !strings.Contains(metrics, "\n"+name+"{") {
			t.Errorf("%s is not there", name)
		}
		_, help, _ := strings.Cut(metrics, "# HELP "+name+" ")
		if help, _, _ = strings.Cut(help, "\n"); len(help) < 20 {
			t.Errorf("%s is explained with %q", name, help)
		}
	}
	if ours := strings.Count(metrics, "# TYPE wsecho_"); ours != len(allDescription) {
		t.Errorf("%d metrics of ours, %d descriptions", ours, len(allDescription))
	}
}

// knocks asks at the front for what is not there.
func (o *harness) knocks(status int) {
	o.t.Helper()
	response, err := http.Get("http://" + o.front)
	if err != nil {
		o.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != status {
		o.t.Errorf("%s, want %d", response.Status, status)
	}
}

// What has happened is what is told.
func TestMetricsCount(t *testing.T) {
	o := opens(t, func(cfg *pool.Config) { cfg.MaxConns = 2 })
	c, adopted := o.dials(o.front), o.dials(o.addr)
	o.says(c, maskedHello+"\x82\x83\x00\x00\x00\x00abc\x89\x80\x00\x00\x00\x00", hello+"\x82\x03abc\x8a\x00")
	o.says(adopted, maskedHello, hello)
	o.knocks(http.StatusServiceUnavailable)
	o.says(c, "\x88\x82\x00\x00\x00\x00\x0f\xa5", "\x88\x02\x0f\xa5") // 4005
	adopted.Close()
	c.Close()
	waitFor(t, "both have left", func() bool { return o.pool.Open() == 0 })
	o.knocks(http.StatusUpgradeRequired)
	waitFor(t, "it has left", func() bool { return counters(t, o.pool).Codes[426] == 1 && counters(t, o.pool).Codes[503] == 1 })
	metrics := o.wants("/metrics", http.StatusOK, "")
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
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(metrics)
	}
}

// A peer cannot make a thousand series of a thousand close codes.
func TestCodesArePutTogether(t *testing.T) {
	c := pool.Counters{Upgraded: 9, RefusedAtOnce: 2, Codes: map[int]uint64{400: 1, 503: 3, 1001: 4, 3000: 5, 3999: 6, 4000: 7, 4999: 8}}
	codes, statuses := codesOf(&c)
	wantCodes := map[string]uint64{"1000": 0, "1001": 4, "1002": 0, "1007": 0, "1009": 0, "3xxx": 11, "4xxx": 15}
	wantStatuses := map[string]uint64{"101": 9, "400": 1, "503": 5}
	if !reflect.DeepEqual(codes, wantCodes) || !reflect.DeepEqual(statuses, wantStatuses) {
		t.Errorf("%v, %v", codes, statuses)
	}
}

// The registry's own checks: names, labels and descriptions fit together.
func TestCollectorIsConsistent(t *testing.T) {
	o := opens(t)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(&collector{o.pool, o.server.cfg.Version, o.server.cfg.LogLost})
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

// Forty scrapers that come at the same time are all told everything, whichever format they ask for.
func TestManyScrapesAtOnce(t *testing.T) {
	o := opens(t)
	o.says(o.dials(o.front), maskedHello, hello)
	o.atOnce(40, "/metrics", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "\n"+`wsecho_messages_echoed_total{opcode="text"} 1`+"\n") {
			t.Errorf("%s, %.200q", response.Status, body)
		}
	})
}

// A worker that hangs costs every scraper a second or two, not a second for each of those before
// it.
func TestManyScrapesOfAWorkerThatHangs(t *testing.T) {
	o := stuck(t)
	o.atOnce(40, "/metrics", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "go_goroutines") {
			t.Errorf("%s, %.200q", response.Status, body)
		}
	})
}

// Scrapers that do not read, more than are answered at once, do not keep others from being
// answered: what the kernel does not take of their answers is dropped when their time is over.
func TestScrapersThatDoNotRead(t *testing.T) {
	o := opens(t)
	for range scrapesMost + 20 {
		o.stalls("/metrics")
	}
	o.wants("/metrics", http.StatusOK, "wsecho_connections")
}
