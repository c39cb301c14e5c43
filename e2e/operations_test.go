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

// ask asks the admin server, and wants 200.
func (s *server) ask(path string) []byte {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience + patience}
	response, err := client.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v, %.200q", path, response.Status, err, body)
	}
	return body
}

// profile asks for a profile as pprof and continuous profilers read it.
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

// goroutines are how many there are, and in how many places.
func (s *server) goroutines() (all, places int) {
	s.t.Helper()
	p := s.profile("goroutine")
	for _, sample := range p.Sample {
		all += int(sample.Value[0])
	}
	return all, len(p.Sample)
}

// A connection has no goroutine: the profile is the same few with ten of them and with fifteen thousand.
func TestGoroutinesAreFew(t *testing.T) {
	const few, many = 10, 15_000
	needDescriptors(t, many)
	s := start(t)
	crowd(t, s, few)
	all, places := s.goroutines()
	crowd(t, s, many-few)
	allThen, placesThen := s.goroutines()
	t.Logf("%d goroutines in %d places with %d connections, %d in %d with %d", all, places, few, allThen, placesThen, many)
	// Two workers may be in one place or in two, and a request of ours that is over may still have its goroutine.
	if allThen > all+2 {
		t.Errorf("%d goroutines have become %d", all, allThen)
	}
	if most := len(s.list("limit=0").Summary.Workers) + 12; all > most { // net/http's for us, and main
		t.Errorf("%d goroutines, want at most %d", all, most)
	}
}

// What Grafana Alloy (pyroscope.scrape) and Parca ask for every few seconds, while messages are echoed.
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
			t.Errorf("%s has %v, not %s", path, types, want)
		}
		if strings.Contains(path, "seconds=") && p.DurationNanos < 5e8 {
			t.Errorf("%s is of %d ns", path, p.DurationNanos)
		}
		switch path {
		case "profile?seconds=1", "block", "goroutine", "allocs":
			if len(p.Sample) == 0 {
				t.Errorf("%s is empty", path)
			}
		}
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Profiles that cost something are of nothing unless they are asked for.
func TestProfilesAreOffByDefault(t *testing.T) {
	s := start(t)
	crowd(t, s, 100)
	for _, path := range []string{"mutex", "block"} {
		if p := s.profile(path); len(p.Sample) > 0 {
			t.Errorf("%s has %d samples", path, len(p.Sample))
		}
	}
}

// What Prometheus costs: the memory that a scrape needs is needed once.
func TestMemoryOfScrapes(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow is not the server's memory")
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
		t.Errorf("scrapes take more than 10 MiB")
	}
}

// Forty Prometheus servers that scrape at the same time are all answered, and a hundred that do not read
// their answers cost little.
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
			t.Errorf("one of forty scrapers got %s", status)
		}
	}
	after := s.residentBytes()
	t.Logf("%d KiB resident after scrapes one by one, %d after many at once", warm>>10, after>>10)
	if !raceEnabled && after > warm+16<<20 {
		t.Errorf("simultaneous scrapes take more than 16 MiB")
	}
}

// metric is the value of one series.
func (s *server) metric(series string) (value float64) {
	s.t.Helper()
	eventually(s.t, series+" is told, which it is not while a worker has no time to answer", func() bool {
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

// list is what /connz tells.
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

// With many connections open, scrapes and lists are answered, count right, and leave none out.
func TestManyConnectionsAreCountedAndListed(t *testing.T) {
	const n = 15_001
	needDescriptors(t, n)
	// Not as many as CPUs: how many there are is for the server to say.
	s := start(t, "-workers", "3")
	crowd(t, s, n)
	workers := len(s.list("limit=0").Summary.Workers)
	sum := 0.0
	for i := range workers {
		sum += s.metric(`wsecho_connections{worker="` + strconv.Itoa(i) + `"}`)
	}
	if sum != n || workers != 3 {
		t.Errorf("%v connections of %d workers are counted, want %d of 3", sum, workers, n)
	}
	if fds := s.metric("process_open_fds"); fds < n {
		t.Errorf("%v descriptors are counted", fds)
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
			t.Errorf("by %s: %d connections are on pages by offset, and %d by mark, want %d", by, len(byOffset), len(byMark), n)
		}
	}
	for peer, want := range map[string]int{"127.0.0.0/8": n, "127.0.0.1": n, "192.0.2.7": 0, "2001:db8::/32": 0} {
		if l := s.list("limit=0&peer=" + peer); l.Matched != want || l.Total != n {
			t.Errorf("%s: %d of %d, want %d of %d", peer, l.Matched, l.Total, want, n)
		}
	}
}
