package report

import (
	"bytes"
	"testing"

	"wsecho/loadtest/generate"
)

func TestThresholdsJudgeMetrics(t *testing.T) {
	r := &Report{Rate: 1000, Latency: Quantiles{Count: 9, P50: 100, P90: 200, P99: 5000, P999: 6000, Max: 7000}, Errors: ErrorCounts{Total: 2}}
	for text, fails := range map[string]bool{
		"p99>5ms": false, "p99>=5ms": true, "p99 > 4.9ms": true, "p99.9<7ms": true, "p50<=100us": true, "p90<=199us": false,
		"max>6ms": true, "errors>0": true, "errors>2": false, "rate<1000": false, "rate<1e4": true,
	} {
		threshold, err := ParseThreshold(text)
		if err != nil {
			t.Fatal(err)
		}
		if v := threshold.judge(r); v.Failed != fails || v.Value == nil {
			t.Errorf("%s: got %+v, want failed %v", text, v, fails)
		}
	}
	unknown, _ := ParseThreshold("p99>5ms")
	if v := unknown.judge(&Report{}); !v.Failed || v.Value != nil {
		t.Errorf("without a message: got %+v, want failed without a value", v)
	}
}

// A condition on a metric that was not measured fails.
func TestConditionOnUnmeasuredMetricFails(t *testing.T) {
	for _, condition := range []string{"p50>1h", "p90>1h", "p99>1h", "p99.9>1h", "max>1h", "rate>1e9", "rate<0", "cpu>1h", "rss>1e9"} {
		c, err := ParseThreshold(condition)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Report{{}, {Server: &Process{}}, {Mode: generate.Idle, Duration: 1}} {
			if r.Mode == generate.Idle && c.Metric == "rss" {
				continue
			}
			if v := c.judge(r); !v.Failed || v.Value != nil {
				t.Errorf("%s of %+v: got %+v, want failed without a value", condition, r, v)
			}
		}
	}
}

// Intervals without replies have no latencies. The charts have gaps there, and no NaN or Inf.
func TestChartsWithoutReplies(t *testing.T) {
	for _, series := range [][]Point{
		nil,
		{{At: 1}},
		{{At: 1}, {At: 2}},
		{{At: 1}, {At: 1}},
		{{At: 1, Rate: 5, P50: 3, P99: 3, Max: 3}, {At: 2}},
		{{At: -1, Rate: 5, P50: 3, P99: 3, Max: 3}, {At: 0}, {At: 1, Rate: 1e9, P50: 0.064, P99: 1e9, Max: 1e9, Errors: 1 << 60}},
	} {
		page, err := renderHTML(&Report{Series: series, Server: &Process{}})
		if err != nil || bytes.Contains(page, []byte("NaN")) || bytes.Contains(page, []byte("Inf")) {
			t.Errorf("%+v: got error %v, or a page with NaN or Inf", series, err)
		}
	}
}

func TestShortTimes(t *testing.T) {
	for us, want := range map[float64]string{0: "0 ns", 0.512: "512 ns", 1: "1.00 µs", 45.67: "45.7 µs", 999: "999 µs", 1234: "1.23 ms", 2.5e6: "2.50 s", 120e6: "120 s"} {
		if got := short(us); got != want {
			t.Errorf("short(%v) = %q, want %q", us, got, want)
		}
	}
}
