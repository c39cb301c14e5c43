package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// results holds all runs on one machine at one commit: the raw data for tables and charts.
type results struct {
	Setting   setting `json:"setting"`
	Runs      []run   `json:"runs"`
	Discarded []run   `json:"discarded"` // runs that were repeated because of a disturbance
}

// setting holds what must be the same for figures to be comparable.
type setting struct {
	Commit   string            `json:"commit"` // with the suffix "-dirty" if there were uncommitted changes
	Machine  machine           `json:"machine"`
	Duration string            `json:"duration"`         // measured time of each run
	Versions map[string]string `json:"versions"`         // of the peers
	Absent   map[string]string `json:"absent,omitempty"` // servers that could not be built here: name to reason
}

// run is one run of a server in a scenario.
type run struct {
	Round    int       `json:"round"` // from 1
	Scenario string    `json:"scenario"`
	Server   string    `json:"server"`
	Began    time.Time `json:"began"`
	Failed   string    `json:"failed,omitempty"` // why the run is invalid; "" if it is valid
	Stolen   float64   `json:"stolen"`           // CPUs that the hypervisor gave to other machines, on average
	Others   float64   `json:"others"`           // CPUs that other processes used, on average, approximately
	Load     *report   `json:"load,omitempty"`   // nil if wsload reported nothing
}

// disturbance returns the CPUs that other processes and other virtual machines used during the run,
// on average.
func (x run) disturbance() float64 { return x.Stolen + x.Others }

// report holds the fields of wsload's report (loadtest/report/report.go, docs/load.md) that are
// used here.
type report struct {
	Duration    float64  `json:"duration_s"`
	Interrupted bool     `json:"interrupted,omitempty"`
	Connections int      `json:"connections"`
	Open        int      `json:"open"`
	Messages    uint64   `json:"messages"`
	Rate        float64  `json:"rate"`
	Latency     latency  `json:"latency_us"`
	Errors      faults   `json:"errors"`
	Server      *process `json:"server"`
	Generator   *process `json:"generator"`
}

type latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

type faults struct {
	Total uint64           `json:"total"`
	Kinds map[string]fault `json:"kinds,omitempty"`
}

type fault struct {
	Count uint64 `json:"count"`
	First string `json:"first"`
}

type process struct {
	CPUs             float64 `json:"cpus"`
	User             float64 `json:"user_us_per_message"`
	System           float64 `json:"system_us_per_message"`
	RSS              int64   `json:"rss,omitempty"`
	RSSPerConnection float64 `json:"rss_per_connection,omitempty"`
}

func (p *process) cpu() float64 { return p.User + p.System }

// parseReport parses the output of wsload -json.
func parseReport(text []byte) (*report, error) {
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("wsload's report: %w", err)
	}
	if r.Server == nil || r.Generator == nil || r.Duration <= 0 {
		return nil, errors.New("wsload's report: server, generator or duration is missing")
	}
	return &r, nil
}

// failure returns why a run is invalid; "" if it is valid.
func (r *report) failure(s scenario) string {
	if r.Errors.Total > 0 {
		var kinds []string
		for kind := range r.Errors.Kinds {
			kinds = append(kinds, kind)
		}
		slices.Sort(kinds)
		text := fmt.Sprintf("%d errors", r.Errors.Total)
		for _, kind := range kinds {
			k := r.Errors.Kinds[kind]
			text += fmt.Sprintf("; %d %s, first: %s", k.Count, kind, k.First)
		}
		return text
	}
	switch {
	case r.Interrupted:
		return "interrupted"
	case s.kind != kindConnect && r.Open < r.Connections:
		return fmt.Sprintf("%d of %d connections were open at the end", r.Open, r.Connections)
	case s.kind == kindIdle && r.Server.RSS == 0:
		return "the server's memory is unknown"
	case s.kind != kindIdle && r.Messages == 0:
		return "no reply was received in the measured time"
	}
	return ""
}

// roundsDone returns the number of runs of a server in a scenario, failed ones included.
func (r *results) roundsDone(scenario, server string) (n int) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Server == server {
			n++
		}
	}
	return n
}

// validReports returns the reports of a server's valid runs in a scenario.
func (r *results) validReports(scenario, server string) (reports []*report) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Server == server && x.Failed == "" && x.Load != nil {
			reports = append(reports, x.Load)
		}
	}
	return reports
}

// disturbance returns the mean and the maximum disturbance of a scenario's runs, in CPUs.
func (r *results) disturbance(scenario string) (mean, highest float64) {
	n := 0
	for _, x := range r.Runs {
		if x.Scenario == scenario {
			mean, highest, n = mean+x.disturbance(), max(highest, x.disturbance()), n+1
		}
	}
	return mean / float64(max(n, 1)), highest
}

// repeated returns the number of a scenario's discarded runs.
func (r *results) repeated(scenario string) (n int) {
	for _, x := range r.Discarded {
		if x.Scenario == scenario {
			n++
		}
	}
	return n
}

// failures returns the reasons of a server's failed runs in a scenario.
func (r *results) failures(scenario, server string) (reasons []string) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Server == server && x.Failed != "" {
			reasons = append(reasons, x.Failed)
		}
	}
	return reasons
}

const resultsFile = "results.json"

func readResults(dir string) (*results, error) {
	path := filepath.Join(dir, resultsFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

// write writes the results to dir, with one run per line, which makes the file easy to read and to
// diff.
func (r *results) write(dir string) error {
	head, err := json.MarshalIndent(r.Setting, " ", " ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "{\n \"setting\": %s", head)
	for _, list := range []struct {
		name string
		runs []run
	}{{"runs", r.Runs}, {"discarded", r.Discarded}} {
		fmt.Fprintf(&text, ",\n %q: [", list.name)
		for i, x := range list.runs {
			line, err := json.Marshal(x)
			if err != nil {
				return err
			}
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "\n  %s", line)
		}
		text.WriteString("\n ]")
	}
	text.WriteString("\n}\n")
	return replaceFile(filepath.Join(dir, resultsFile), text.Bytes())
}

// replaceFile replaces a file atomically, because bench may be killed at any time.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// checkSame returns an error if runs under the other setting are not comparable with those under s.
func (s setting) checkSame(other setting) error {
	differs := func(what string, a, b any) error {
		return fmt.Errorf("-append: %s was %v and is now %v: the figures are not comparable", what, a, b)
	}
	switch {
	case s.Commit != other.Commit:
		return differs("the commit", s.Commit, other.Commit)
	case s.Machine != other.Machine:
		return differs("the machine", s.Machine, other.Machine)
	case s.Duration != other.Duration:
		return differs("-duration", s.Duration, other.Duration)
	}
	for name, version := range other.Versions {
		if before, there := s.Versions[name]; there && before != version {
			return differs("peer "+name, before, version)
		}
	}
	return nil
}
