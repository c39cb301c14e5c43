package report

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsecho/loadtest/generate"
)

// A Threshold is a condition of -fail-if, such as p99>5ms: if it holds, the run has failed.
type Threshold struct {
	Metric string
	text   string
	op     string
	limit  float64 // in the metric's unit
}

// metrics are the metrics of thresholds. Times are in seconds.
var metrics = []struct {
	name   string
	isTime bool
	of     func(*Report) (value float64, known bool)
}{
	{"p50", true, func(r *Report) (float64, bool) { return r.Latency.P50 / 1e6, r.Latency.Count > 0 }},
	{"p90", true, func(r *Report) (float64, bool) { return r.Latency.P90 / 1e6, r.Latency.Count > 0 }},
	{"p99", true, func(r *Report) (float64, bool) { return r.Latency.P99 / 1e6, r.Latency.Count > 0 }},
	{"p99.9", true, func(r *Report) (float64, bool) { return r.Latency.P999 / 1e6, r.Latency.Count > 0 }},
	{"max", true, func(r *Report) (float64, bool) { return r.Latency.Max / 1e6, r.Latency.Count > 0 }},
	{"errors", false, func(r *Report) (float64, bool) { return float64(r.Errors.Total), true }},
	{"rate", false, func(r *Report) (float64, bool) {
		return r.Rate, r.Rate > 0 || r.Duration > 0 && r.Mode != generate.Idle
	}},
	{"open", false, func(r *Report) (float64, bool) { return float64(r.Open), true }},
	{"lost", false, func(r *Report) (float64, bool) { return float64(r.Lost), true }},
	{"cpu", true, func(r *Report) (float64, bool) {
		return r.Server.cpuPerMessage() / 1e6, r.Server.cpuPerMessage() > 0
	}},
	{"rss", false, func(r *Report) (float64, bool) {
		if r.Server == nil || r.Open == 0 {
			return 0, false
		}
		return r.Server.RSSPerConnection, true
	}},
}

// MetricNames returns the names of the metrics of thresholds.
func MetricNames() (names []string) {
	for _, m := range metrics {
		names = append(names, m.name)
	}
	return names
}

// ParseThreshold parses a threshold. Its error is the predicate of a sentence whose subject is the
// text: "has no number after errors>".
func ParseThreshold(text string) (Threshold, error) {
	text = strings.TrimSpace(text)
	at := strings.IndexAny(text, "<>")
	if at < 0 {
		return Threshold{}, errors.New("is not a metric, an operator (< <= > >=) and a limit, such as p99>5ms")
	}
	t := Threshold{text: text, Metric: strings.TrimSpace(text[:at]), op: text[at : at+1]}
	limit := text[at+1:]
	if rest, orEqual := strings.CutPrefix(limit, "="); orEqual {
		t.op, limit = t.op+"=", rest
	}
	limit = strings.TrimSpace(limit)
	i := slices.Index(MetricNames(), t.Metric)
	if i < 0 {
		return Threshold{}, fmt.Errorf("has none of the metrics %s", strings.Join(MetricNames(), ", "))
	}
	if metrics[i].isTime {
		d, err := time.ParseDuration(limit)
		if err != nil {
			return Threshold{}, fmt.Errorf("has no time such as 5ms or 300us after %s%s", t.Metric, t.op)
		}
		t.limit = d.Seconds()
		return t, nil
	}
	n, err := strconv.ParseFloat(limit, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return Threshold{}, fmt.Errorf("has no number after %s%s", t.Metric, t.op)
	}
	t.limit = n
	return t, nil
}

// A Verdict is the result of a threshold.
type Verdict struct {
	Threshold string   `json:"threshold"`
	Value     *float64 `json:"value"` // in seconds if it is a time; null: not measured, which also fails
	Failed    bool     `json:"failed"`

	metric string
}

// judge compares a threshold with the report. A metric that was not measured fails, so that a check
// cannot pass because a run measured nothing.
func (t Threshold) judge(r *Report) Verdict {
	for _, m := range metrics {
		if m.name != t.Metric {
			continue
		}
		value, known := m.of(r)
		if !known {
			break
		}
		return Verdict{t.text, &value, t.holds(value), t.Metric}
	}
	return Verdict{t.text, nil, true, t.Metric}
}

// String returns the threshold as the user wrote it, without surrounding spaces.
func (t Threshold) String() string { return t.text }

func (t Threshold) holds(value float64) bool {
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

// String returns the threshold and the measured value.
func (v Verdict) String() string {
	if v.Value == nil {
		return v.Threshold + ": was not measured"
	}
	value := strconv.FormatFloat(*v.Value, 'f', -1, 64)
	if t, err := ParseThreshold(v.Threshold); err == nil && metrics[slices.Index(MetricNames(), t.Metric)].isTime {
		value = short(*v.Value * 1e6)
	}
	return fmt.Sprintf("%s: it is %s", v.Threshold, value)
}
