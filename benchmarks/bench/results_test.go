package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"wsecho/internal/format"
)

// sample is a report as wsload -json writes it, including fields that bench does not use.
const sample = `{
  "version": "v1", "mode": "echo", "loop": "closed", "connections": 100, "duration_s": 2, "interrupted": false,
  "messages": 200000, "rate": 100000, "bytes": 25600000,
  "latency_us": {"count": 200000, "mean": 900, "p50": 844, "p90": 1330, "p99": 4330, "p99.9": 11800, "max": 24300},
  "open": 100, "errors": {"total": 0, "kinds": {}},
  "server": {"pid": 1, "cpus": 0.45, "user_us_per_message": 0.66, "system_us_per_message": 3.86, "rss": 6815744, "rss_per_connection": 1843.2},
  "generator": {"pid": 2, "cpus": 0.97, "user_us_per_message": 0.72, "system_us_per_message": 3.82},
  "thresholds": [], "series": [{"at_s": 1}]
}`

func TestParseReport(t *testing.T) {
	r, err := parseReport([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := &report{Duration: 2, Connections: 100, Open: 100, Messages: 200000, Rate: 100000,
		Latency: latency{200000, 844, 1330, 4330, 11800, 24300}, Errors: faults{Kinds: map[string]fault{}},
		Server:    &process{CPUs: 0.45, User: 0.66, System: 3.86, RSS: 6815744, RSSPerConnection: 1843.2},
		Generator: &process{CPUs: 0.97, User: 0.72, System: 3.82}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if reason := r.failure(scenarios[0]); reason != "" {
		t.Errorf("got failure %q, want a valid run", reason)
	}
	for _, text := range []string{"", "{}", `{"duration_s": 2, "server": {}}`, `{"duration_s": "2"}`} {
		if r, err := parseReport([]byte(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, r)
		}
	}
}

func TestRunsWithErrorsAreInvalid(t *testing.T) {
	idle, _ := scenarioNamed("idle")
	for _, c := range []struct {
		scenario scenario
		change   func(*report)
		want     string
	}{
		{scenarios[0], func(r *report) {
			r.Errors = faults{3, map[string]fault{"mismatch": {2, "byte 7"}, "cut": {1, "reset"}}}
		}, "3 errors; 1 cut, first: reset; 2 mismatch, first: byte 7"},
		{scenarios[0], func(r *report) { r.Open = 99 }, "99 of 100 connections were open at the end"},
		{scenarios[0], func(r *report) { r.Messages = 0 }, "no reply was received in the measured time"},
		{scenarios[0], func(r *report) { r.Interrupted = true }, "interrupted"},
		{idle, func(r *report) { r.Server.RSS = 0 }, "the server's memory is unknown"},
	} {
		r, err := parseReport([]byte(sample))
		if err != nil {
			t.Fatal(err)
		}
		c.change(r)
		if got := r.failure(c.scenario); got != c.want {
			t.Errorf("failure: got %q, want %q", got, c.want)
		}
	}
}

// FuzzReport checks that results that are written and read again are the same.
func FuzzReport(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"duration_s":1,"server":{"cpus":1e-9},"generator":{},"errors":{"kinds":{"":{}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseReport(text)
		if err != nil {
			return
		}
		dir := t.TempDir()
		whole := &results{Runs: []run{{Scenario: "small", Server: ours, Load: r, Failed: r.failure(scenarios[0])}}}
		if err := whole.write(dir); err != nil {
			t.Fatal(err)
		}
		again, err := readResults(dir)
		if err != nil {
			t.Fatal(err)
		}
		one, _ := json.Marshal(whole.Runs)
		two, _ := json.Marshal(again.Runs)
		if string(one) != string(two) {
			t.Errorf("written\n%s\nread\n%s", one, two)
		}
		writePage(again)
	})
}

// A benchmark whose runs have all failed has no valid run.
func TestAnyValid(t *testing.T) {
	good, bad := run{Scenario: "small", Server: ours, Load: &report{}}, run{Scenario: "small", Server: ours, Failed: "3 errors", Load: &report{}}
	for _, x := range []struct {
		runs []run
		set  settings
		want bool
	}{
		{nil, settings{}, false},
		{[]run{bad, bad}, settings{}, false},
		{[]run{bad, good}, settings{}, true},
		{[]run{good}, settings{scenarios: names{"idle"}}, false},
		{[]run{good}, settings{servers: names{"gws"}}, false},
	} {
		if got := (&results{Runs: x.runs}).anyValid(&x.set); got != x.want {
			t.Errorf("settings %+v, runs %+v: got %v, want %v", x.set, x.runs, got, x.want)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   figure
	}{
		{nil, figure{}},
		{[]float64{5}, figure{5, 5, 5, 1}},
		{[]float64{3, 1}, figure{2, 1, 3, 2}},
		{[]float64{9, 1, 4}, figure{4, 1, 9, 3}},
		{[]float64{4, 8, 6, 2}, figure{5, 2, 8, 4}},
	} {
		if got := figureOf(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
}

// fixture builds results for tests.
type fixture struct{ results }

// add adds one run for each rate.
func (m *fixture) add(scenario, server string, rates ...float64) {
	for _, rate := range rates {
		m.Runs = append(m.Runs, run{Round: 1, Scenario: scenario, Server: server, Began: time.Unix(1.8e9, 0), Load: &report{
			Duration: 1, Rate: rate, Messages: uint64(rate), Latency: latency{P50: 5e7 / rate, P99: 1e8 / rate},
			Server:    &process{CPUs: 1, User: 2e5 / rate, System: 8e5 / rate, RSS: 1 << 20, RSSPerConnection: 107},
			Generator: &process{CPUs: 0.5, User: 1e5 / rate, System: 4e5 / rate},
		}})
	}
}

// fullResults returns results with runs of all servers in all scenarios.
func fullResults() *results {
	m := &fixture{}
	m.Setting = setting{Commit: "0123456789ab", Duration: "2s", Machine: machine{CPU: "a CPU <with> & signs", Cores: 2, Kernel: "7.0"}}
	for _, sc := range scenarios {
		for i, s := range servers {
			rate := 1e5 / float64(i+1)
			m.add(sc.name, s.name, rate, 1.1*rate, 0.9*rate)
		}
	}
	return &m.results
}

func TestTargets(t *testing.T) {
	m := &fixture{}
	m.add("small", ours, 100, 103, 99) // the median is 100
	m.add("small", floor, 102)         // so CPU is 1.02 × floor's
	m.add("small", gnet, 90)           // so the rate is 1.11 × gnet's
	m.add("pipelined", ours, 1000)
	m.add("pipelined", "gws", 70)
	m.add("pipelined", "gorilla", 100) // the best
	m.add("idle", ours, 1)
	table := targetTable(&m.results)
	for _, want := range []string{
		"| small | CPU per message ÷ `floor` | at most 1.03 × | 1.02 × | met |",
		"| small | rate ÷ gnet | at least 1.20 × | 1.11 × | missed |",
		"| pipelined | rate ÷ best goroutine-per-connection peer | at least 10.00 × | 10.00 × (gorilla) | met |",
		"| idle | RSS per connection | at most 150 B | 107 B | met |",
		"| classic | rate ÷ gnet | at least 1.20 × | not measured |  |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("table does not contain %q:\n%s", want, table)
		}
	}
}

func TestFailedRunsAreReported(t *testing.T) {
	m := &fixture{}
	m.add("small", ours, 100)
	m.add("small", "gws", 50, 60)
	m.Runs[2].Failed = "3 errors; 3 mismatch, first: byte 7 | of 9"
	m.add("small", "coder", 10)
	m.Runs[3].Failed = "the server exited"
	page := scenarioTable(&m.results, tableNamed(&m.results, "small"))
	for _, want := range []string{
		"| gws | 50.0 |",
		"gws failed in 1 of 2 runs, which are excluded. First failure: 3 errors; 3 mismatch, first: byte 7 / of 9",
		"| coder | failed |",
		"coder failed in 1 of 1 runs",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("page does not contain %q:\n%s", want, page)
		}
	}
}

func TestGeneratorLimitIsMarked(t *testing.T) {
	m := &fixture{}
	m.add("small", ours, 100)
	m.add("small", "gws", 50)
	m.Runs[0].Load.Server.CPUs, m.Runs[0].Load.Generator.CPUs = 0.8, 0.99
	page := scenarioTable(&m.results, tableNamed(&m.results, "small"))
	if !strings.Contains(page, "| **wsecho** | 100 † |") || !strings.Contains(page, "† The generator") || strings.Contains(page, "50.0 †") {
		t.Error(page)
	}
}

func TestPages(t *testing.T) {
	r := fullResults()
	page := writePage(r)
	for _, sc := range scenarios {
		if !strings.Contains(page, "## "+sc.name+": "+sc.title) || !strings.Contains(page, "("+sc.name+".svg)") {
			t.Errorf("page: scenario %s is missing", sc.name)
		}
	}
	overview := writeOverview(r)
	for _, s := range servers {
		if !strings.Contains(overview, "| "+bold(s)+" |") {
			t.Errorf("overview: server %s is missing", s.name)
		}
	}
	for _, text := range []string{page, overview} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "|") && (!strings.HasSuffix(line, "|\n") || strings.Contains(line, "NaN") || strings.Contains(line, "Inf")) {
				t.Errorf("broken table row: %s", line)
			}
		}
	}
	columns := 0
	for line := range strings.Lines(overview) { // every row has as many columns as the header
		if n := strings.Count(line, "|"); n > 0 {
			if columns > 0 && n != columns {
				t.Errorf("got %d column separators, want %d: %s", n, columns, line)
			}
			columns = n
		}
	}
}

// Every chart is well-formed XML, shows every server, and has no NaN and no negative width.
func TestCharts(t *testing.T) {
	dir := t.TempDir()
	if err := render(fullResults(), dir); err != nil {
		t.Fatal(err)
	}
	charts, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(charts) != len(scenarios)+1 {
		t.Fatalf("got charts %v, %v; want %d", charts, err, len(scenarios)+1)
	}
	for _, path := range charts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		decoder := xml.NewDecoder(strings.NewReader(string(text)))
		for {
			token, err := decoder.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", filepath.Base(path), err)
			}
			if e, isElement := token.(xml.StartElement); isElement {
				for _, a := range e.Attr {
					if strings.Contains(a.Value, "NaN") || (a.Name.Local == "width" && strings.HasPrefix(a.Value, "-")) {
						t.Errorf("%s: %s has %s=%q", filepath.Base(path), e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		}
		for _, s := range servers {
			if !strings.Contains(string(text), ">"+s.name+"</text>") {
				t.Errorf("%s: server %s is missing", filepath.Base(path), s.name)
			}
		}
	}
}

func TestAppendRequiresTheSameSetting(t *testing.T) {
	base := setting{Commit: "a", Duration: "2s", Machine: machine{CPU: "x"}, Versions: map[string]string{"gws": "1"}}
	for _, c := range []struct {
		change func(*setting)
		want   string
	}{
		{func(s *setting) {}, ""},
		{func(s *setting) { s.Commit = "b" }, "the commit was a and is now b"},
		{func(s *setting) { s.Duration = "1s" }, "-duration was 2s"},
		{func(s *setting) { s.Machine.CPU = "y" }, "the machine was"},
		{func(s *setting) { s.Versions = map[string]string{"gws": "2"} }, "peer gws was 1 and is now 2"},
		{func(s *setting) { s.Versions = map[string]string{"coder": "2"} }, ""},
	} {
		now := base
		c.change(&now)
		err := base.checkSame(now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got error %v, want %q", err, c.want)
		}
	}
}

func TestReplaceRegion(t *testing.T) {
	page := "before\n" + regionBegin + "\nold\n" + regionEnd + "\nafter\n"
	got, err := replaceRegion(page, "new\n")
	if want := "before\n" + regionBegin + "\nnew\n" + regionEnd + "\nafter\n"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, page := range []string{"", regionBegin + "\n", regionEnd + "\n" + regionBegin + "\n"} {
		if got, err := replaceRegion(page, "new\n"); err == nil {
			t.Errorf("%q: got %q, want an error", page, got)
		}
	}
	// The README has the region.
	dir := t.TempDir()
	readme, err := os.ReadFile(filepath.Join(repository(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "README.md")
	if err := os.WriteFile(path, readme, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := updateReadme(path, fullResults()); err != nil {
		t.Fatal(err)
	}
	if changed, _ := os.ReadFile(path); !strings.Contains(string(changed), "docs/benchmarks/overview.svg") {
		t.Error("the README does not show overview.svg")
	}
}

func TestNumberFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{number(0.257), "0.26"}, {number(12.34), "12.3"}, {number(1234567.4), "1,234,567"},
		{rough(98765), "98.8k"}, {rough(123456), "123k"}, {rough(1234567), "1.23M"}, {rough(999_700), "1.00M"}, {rough(950), "950"},
		{timeText(844), "844 µs"}, {timeText(4330), "4.33 ms"}, {timeText(2.5e6), "2.50 s"},
		{format.Bytes(107.0), "107 B"}, {format.Bytes(-2048.0), "-2.0 KiB"}, {percent(0.98), "2.0 %"},
		{oneLine("a |\n b"), "a / b"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if mean, highest := (&results{}).disturbance("small"); math.IsNaN(mean) || highest != 0 {
		t.Errorf("disturbance without runs: got %v and %v, want 0 and 0", mean, highest)
	}
}

func TestParseCPUs(t *testing.T) {
	got, err := parseCPUs("cpu  100 20 300 4000 50 6 7 150 9 10\ncpu0 1")
	if want := (cpuTimes{used: 4330 * time.Millisecond, stolen: 1500 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "intr 1", "cpu 1 2 3", "cpu 1 2 3 4 5 6 7 x"} {
		if _, err := parseCPUs(text); err == nil {
			t.Errorf("%q: got no error, want one", text)
		}
	}
}
