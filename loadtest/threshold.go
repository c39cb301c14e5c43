package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A threshold is a condition on which the exit status says that the run has failed, such
// as p99>5ms.
type threshold struct {
	text   string
	metric string
	op     string
	limit  float64 // in the metric's unit
}

// metrics are what thresholds may be on. Those with times have them in
// seconds.
var metrics = []struct {
	name    string
	isTime  bool
	meaning string
	of      func(*report) (value float64, known bool)
}{
	{"p50", true, "", func(r *report) (float64, bool) { return r.Latency.P50 / 1e6, r.Latency.Count > 0 }},
	{"p90", true, "", func(r *report) (float64, bool) { return r.Latency.P90 / 1e6, r.Latency.Count > 0 }},
	{"p99", true, "", func(r *report) (float64, bool) { return r.Latency.P99 / 1e6, r.Latency.Count > 0 }},
	{"p99.9", true, "", func(r *report) (float64, bool) { return r.Latency.P999 / 1e6, r.Latency.Count > 0 }},
	{"max", true, "latencies, as times", func(r *report) (float64, bool) { return r.Latency.Max / 1e6, r.Latency.Count > 0 }},
	{"errors", false, "of all kinds", func(r *report) (float64, bool) { return float64(r.Errors.Total), true }},
	{"rate", false, "replies a second", func(r *report) (float64, bool) { return r.Rate, r.Rate > 0 || r.Duration > 0 && r.Mode != modeIdle }},
	{"open", false, "connections at the end of the measured time", func(r *report) (float64, bool) { return float64(r.Open), true }},
	{"lost", false, "messages sent and never echoed", func(r *report) (float64, bool) { return float64(r.Lost), true }},
	{"cpu", true, "the server's, a message, as a time", func(r *report) (float64, bool) {
		return r.Server.cpuPerMessage() / 1e6, r.Server.cpuPerMessage() > 0
	}},
	{"rss", false, "the server's, in bytes a connection", func(r *report) (float64, bool) {
		if r.Server == nil || r.Open == 0 {
			return 0, false
		}
		return r.Server.RSSPerConnection, true
	}},
}

func metricNames() (names []string) {
	for _, m := range metrics {
		names = append(names, m.name)
	}
	return names
}

// parseThreshold reads a threshold.
func parseThreshold(text string) (threshold, error) {
	text = strings.TrimSpace(text)
	at := strings.IndexAny(text, "<>")
	if at < 0 {
		return threshold{}, errors.New("is not a metric, < or >, and a limit, such as p99>5ms")
	}
	t := threshold{text: text, metric: strings.TrimSpace(text[:at]), op: text[at : at+1]}
	limit := text[at+1:]
	if rest, orEqual := strings.CutPrefix(limit, "="); orEqual {
		t.op, limit = t.op+"=", rest
	}
	limit = strings.TrimSpace(limit)
	i := slices.Index(metricNames(), t.metric)
	if i < 0 {
		return threshold{}, fmt.Errorf("has no metric of %s", strings.Join(metricNames(), ", "))
	}
	if metrics[i].isTime {
		d, err := time.ParseDuration(limit)
		if err != nil {
			return threshold{}, fmt.Errorf("has no time such as 5ms or 300us behind %s%s", t.metric, t.op)
		}
		t.limit = d.Seconds()
		return t, nil
	}
	n, err := strconv.ParseFloat(limit, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return threshold{}, fmt.Errorf("has no number behind %s%s", t.metric, t.op)
	}
	t.limit = n
	return t, nil
}

// verdict is what has become of a threshold.
type verdict struct {
	Threshold string   `json:"threshold"`
	Value     *float64 `json:"value"` // in seconds if it is a time; null: unknown, which is a failure too
	Failed    bool     `json:"failed"`

	metric string
}

// judge compares a threshold with what was measured. What is not known does not
// pass: somebody relies on it.
func (t threshold) judge(r *report) verdict {
	for _, m := range metrics {
		if m.name != t.metric {
			continue
		}
		value, known := m.of(r)
		if !known {
			break
		}
		return verdict{t.text, &value, t.holds(value), t.metric}
	}
	return verdict{t.text, nil, true, t.metric}
}

func (t threshold) holds(value float64) bool {
	switch t.op {
	case ">":
		return value > t.limit
	case ">=":
		return value >= t.limit
	case "<":
		return value < t.limit
	}
	return value <= t.limit
}

func (v verdict) String() string {
	if v.Value == nil {
		return v.Threshold + ": nothing was measured that would tell"
	}
	value := strconv.FormatFloat(*v.Value, 'f', -1, 64)
	if t, err := parseThreshold(v.Threshold); err == nil && metrics[slices.Index(metricNames(), t.metric)].isTime {
		value = short(*v.Value * 1e6)
	}
	return fmt.Sprintf("%s: it is %s", v.Threshold, value)
}
