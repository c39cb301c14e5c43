package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"
)

// ask sends a GET request to the admin server, wants status 200, and returns the body.
func (s *server) ask(path string) []byte {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitTimeout + waitTimeout}
	response, err := client.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: got %s, %v, %.200q, want 200", path, response.Status, err, body)
	}
	return body
}

// profile reads a profile and parses it as pprof and continuous profilers do.
func (s *server) profile(path string) *pprof.Profile {
	s.t.Helper()
	p, err := pprof.ParseData(s.ask("/debug/pprof/" + path))
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	if err := p.CheckValid(); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return p
}

func sampleTypes(p *pprof.Profile) (types []string) {
	for _, v := range p.SampleType {
		types = append(types, v.Type+"/"+v.Unit)
	}
	return types
}

// goroutines returns the number of goroutines and the number of their distinct stacks.
func (s *server) goroutines() (all, stacks int) {
	s.t.Helper()
	p := s.profile("goroutine")
	for _, sample := range p.Sample {
		all += int(sample.Value[0])
	}
	return all, len(p.Sample)
}

// Connections have no goroutines: the number is the same with 10 connections and with 15,000.
func TestConnectionsHaveNoGoroutines(t *testing.T) {
	const few, many = 10, 15_000
	needDescriptors(t, many)
	s := start(t)
	openMany(t, s, few)
	all, stacks := s.goroutines()
	openMany(t, s, many-few)
	allThen, stacksThen := s.goroutines()
	t.Logf("%d goroutines with %d stacks and %d connections, %d with %d and %d", all, stacks, few, allThen, stacksThen, many)
	// A request to the admin server that has just ended may still have its goroutine.
	if allThen > all+2 {
		t.Errorf("got %[2]d goroutines with many connections, want at most 2 more than %[1]d", all, allThen)
	}
	if most := len(s.list("limit=0").Summary.Workers) + 12; all > most { // net/http, main
		t.Errorf("got %d goroutines, want at most %d", all, most)
	}
}

// The server answers the requests of Grafana Alloy (pyroscope.scrape) and Parca while it echoes
// messages.
func TestContinuousProfilers(t *testing.T) {
	s := start(t, "-mutex-profile-fraction", "1", "-block-profile-rate", "1")
	p := s.upgrade(t)
	done, end := make(chan error, 1), make(chan bool)
	go func() {
		for {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			if err := echoOnce(p.wire, 1); err != nil {
				done <- err
				return
			}
		}
	}()
	for path, want := range map[string]string{
		"profile?seconds=1":   "cpu/nanoseconds",
		"allocs":              "alloc_space/bytes",
		"allocs?seconds=1":    "alloc_space/bytes",
		"heap":                "inuse_space/bytes",
		"heap?seconds=1":      "inuse_space/bytes",
		"goroutine":           "goroutine/count",
		"goroutine?seconds=1": "goroutine/count",
		"mutex":               "delay/nanoseconds",
		"mutex?seconds=1":     "delay/nanoseconds",
		"block":               "delay/nanoseconds",
		"block?seconds=1":     "delay/nanoseconds",
		"threadcreate":        "threadcreate/count",
	} {
		p := s.profile(path)
		if types := sampleTypes(p); !slices.Contains(types, want) {
			t.Errorf("%s: got sample types %v, want %s", path, types, want)
		}
		if strings.Contains(path, "seconds=") && p.DurationNanos < 5e8 {
			t.Errorf("%s: got a duration of %d ns, want at least 0.5 s", path, p.DurationNanos)
		}
		switch path {
		case "profile?seconds=1", "block", "goroutine", "allocs":
			if len(p.Sample) == 0 {
				t.Errorf("%s: got no samples", path)
			}
		}
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The mutex and block profiles cost CPU time, so they are empty unless flags enable them.
func TestProfilesAreOffByDefault(t *testing.T) {
	s := start(t)
	openMany(t, s, 100)
	for _, path := range []string{"mutex", "block"} {
		if p := s.profile(path); len(p.Sample) > 0 {
			t.Errorf("%s: got %d samples, want none", path, len(p.Sample))
		}
	}
}

// Repeated scrapes use the same memory as the first ones.
func TestMemoryOfScrapes(t *testing.T) {
	if raceEnabled {
		t.Skip("memory is not comparable under the race detector")
	}
	s := start(t)
	cold := s.residentBytes()
	for range 20 {
		s.ask("/metrics")
	}
	warm := s.residentBytes()
	for range 200 {
		s.ask("/metrics")
	}
	after := s.residentBytes()
	t.Logf("%d KiB resident at start, %d after 20 scrapes, %d after 220", cold>>10, warm>>10, after>>10)
	if most := cold + 10<<20; warm > most || after > most {
		t.Errorf("scrapes use more than 10 MiB")
	}
}

// The server answers 40 simultaneous scrapes, and 100 clients that do not read their responses cost
// little memory.
func TestScrapesAtOnce(t *testing.T) {
	s := start(t)
	for range 20 {
		s.ask("/metrics")
	}
	warm := s.residentBytes()
	for range 100 {
		c, err := net.Dial("tcp", s.admin)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	statuses := make(chan string, 40)
	for range cap(statuses) {
		go func() {
			response, err := http.Get("http://" + s.admin + "/metrics")
			if err != nil {
				statuses <- err.Error()
				return
			}
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if statuses <- response.Status; err != nil {
				t.Error(err)
			}
		}()
	}
	for range cap(statuses) {
		if status := <-statuses; status != "200 OK" {
			t.Errorf("got %s for one of 40 scrapes, want 200 OK", status)
		}
	}
	after := s.residentBytes()
	t.Logf("%d KiB resident after sequential scrapes, %d after simultaneous ones", warm>>10, after>>10)
	if !raceEnabled && after > warm+16<<20 {
		t.Errorf("simultaneous scrapes use more than 16 MiB")
	}
}

// metric returns the value of one series.
func (s *server) metric(series string) (value float64) {
	s.t.Helper()
	eventually(s.t, series+" is reported, which needs an answer of every worker", func() bool {
		for line := range strings.Lines(string(s.ask("/metrics"))) {
			if text, found := strings.CutPrefix(line, series+" "); found {
				var err error
				if value, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil {
					s.t.Fatal(err)
				}
				return true
			}
		}
		return false
	})
	return value
}

// list is the response of /connz.
type list struct {
	Summary struct {
		Workers []int
	}
	Total, Matched int
	Next           string
	Connections    []struct {
		FD   int
		Peer string
	}
}

func (s *server) list(query string) (l list) {
	s.t.Helper()
	if err := json.Unmarshal(s.ask("/connz?"+query), &l); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return l
}

// With many open connections, metrics and /connz count them correctly and omit none.
func TestManyConnectionsAreCountedAndListed(t *testing.T) {
	const n = 15_001
	needDescriptors(t, n)
	// The default depends on the machine's CPUs.
	s := start(t, "-workers", "3")
	openMany(t, s, n)
	workers := len(s.list("limit=0").Summary.Workers)
	sum := 0.0
	for i := range workers {
		sum += s.metric(`wsecho_connections{worker="` + strconv.Itoa(i) + `"}`)
	}
	if sum != n || workers != 3 {
		t.Errorf("got %v connections of %d workers, want %d of 3", sum, workers, n)
	}
	if fds := s.metric("process_open_fds"); fds < n {
		t.Errorf("got process_open_fds %v, want at least the connections", fds)
	}
	for _, by := range []string{"age", "idle", "bytes"} {
		byOffset, byMark := map[int]bool{}, map[int]bool{}
		for offset := 0; offset < n; offset += 4000 {
			l := s.list("limit=4000&sort=" + by + "&offset=" + strconv.Itoa(offset))
			for _, c := range l.Connections {
				byOffset[c.FD] = true
			}
		}
		for query := "limit=10000&sort=" + by; ; {
			l := s.list(query)
			for _, c := range l.Connections {
				byMark[c.FD] = true
			}
			if l.Next == "" {
				break
			}
			query = "limit=10000&sort=" + by + "&after=" + l.Next
		}
		if len(byOffset) != n || len(byMark) != n {
			t.Errorf("sort=%s: got %d connections by offset and %d by mark, want %d", by, len(byOffset), len(byMark), n)
		}
	}
	for peer, want := range map[string]int{"127.0.0.0/8": n, "127.0.0.1": n, "192.0.2.7": 0, "2001:db8::/32": 0} {
		if l := s.list("limit=0&peer=" + peer); l.Matched != want || l.Total != n {
			t.Errorf("peer=%s: got %d of %d connections, want %d of %d", peer, l.Matched, l.Total, want, n)
		}
	}
}
