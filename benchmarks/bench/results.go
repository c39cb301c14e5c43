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

// results are all runs on one machine at one commit: the raw data, of which tables and charts are made.
type results struct {
	Setting   setting `json:"setting"`
	Runs      []run   `json:"runs"`
	Discarded []run   `json:"discarded"` // repeated, because others took too much of the CPUs
}

// setting is what must be the same for figures to be compared.
type setting struct {
	Commit   string            `json:"commit"` // "-dirty" behind it: something was changed that was not committed
	Machine  machine           `json:"machine"`
	Duration string            `json:"duration"`         // measured, of each run
	Versions map[string]string `json:"versions"`         // of the peers
	Absent   map[string]string `json:"absent,omitempty"` // servers that this machine could not run, and why
}

// run is one server under one load.
type run struct {
	Round    int       `json:"round"` // from 1
	Scenario string    `json:"scenario"`
	Server   string    `json:"server"`
	Began    time.Time `json:"began"`
	Failed   string    `json:"failed,omitempty"` // why its figures do not count
	Stolen   float64   `json:"stolen"`           // CPUs that the hypervisor gave to others meanwhile, on average
	Others   float64   `json:"others"`           // CPUs that other processes used meanwhile, about
	Load     *report   `json:"load,omitempty"`   // nil: wsload had nothing to report
}

// disturbance is what others had of the CPUs meanwhile, about.
func (x run) disturbance() float64 { return x.Stolen + x.Others }

// report is what is used of wsload's (loadtest/report/report.go, docs/load.md).
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

// parseReport reads what wsload -json wrote.
func parseReport(text []byte) (*report, error) {
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("wsload's report: %w", err)
	}
	if r.Server == nil || r.Generator == nil || r.Duration <= 0 {
		return nil, errors.New("wsload's report: has no server, no generator or no duration")
	}
	return &r, nil
}

// verdict says why a run does not count; "" if it does.
func (r *report) verdict(s scenario) string {
	if r.Errors.Total > 0 {
		var kinds []string
		for kind := range r.Errors.Kinds {
			kinds = append(kinds, kind)
		}
		slices.Sort(kinds)
		text := fmt.Sprintf("%d errors", r.Errors.Total)
		for _, kind := range kinds {
			k := r.Errors.Kinds[kind]
			text += fmt.Sprintf("; %d %s, the first: %s", k.Count, kind, k.First)
		}
		return text
	}
	switch {
	case r.Interrupted:
		return "interrupted"
	case s.kind != kindConnect && r.Open < r.Connections:
		return fmt.Sprintf("%d of %d connections were open at the end", r.Open, r.Connections)
	case s.kind == kindIdle && r.Server.RSS == 0:
		return "the server's memory is not known"
	case s.kind != kindIdle && r.Messages == 0:
		return "no message came back in the measured time"
	}
	return ""
}

// done is how many rounds of a scenario a server has had.
func (r *results) done(scenario, server string) (n int) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Server == server {
			n++
		}
	}
	return n
}

// counted are the runs whose figures count.
func (r *results) counted(scenario, server string) (reports []*report) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Server == server && x.Failed == "" && x.Load != nil {
			reports = append(reports, x.Load)
		}
	}
	return reports
}

// disturbance is what a scenario's runs did not have of the CPUs, and the most that one of them had not: what
// the hypervisor took, and what other processes used.
func (r *results) disturbance(scenario string) (mean, most float64) {
	n := 0
	for _, x := range r.Runs {
		if x.Scenario == scenario {
			mean, most, n = mean+x.disturbance(), max(most, x.disturbance()), n+1
		}
	}
	return mean / float64(max(n, 1)), most
}

func (r *results) repeated(scenario string) (n int) {
	for _, x := range r.Discarded {
		if x.Scenario == scenario {
			n++
		}
	}
	return n
}

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

// write writes one run a line, so that the file is shown and compared with ease.
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

// replaceFile writes a file that is never half there: a run may be ended at any time.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// continues says what keeps runs under another setting from being added.
func (s setting) continues(other setting) error {
	differs := func(what string, a, b any) error {
		return fmt.Errorf("-append: %s was %v, and is %v now: figures would not compare", what, a, b)
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
