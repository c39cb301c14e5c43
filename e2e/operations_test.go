package e2e

import (
	"io"
	"net/http"
	"runtime"
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
	if most := runtime.NumCPU() + 12; all > most { // a worker a CPU, net/http's for us, and main
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

// With many connections open, scrapes and lists are answered, and count right.
func TestManyConnectionsAreCountedAndListed(t *testing.T) {
	const n = 10_000
	needDescriptors(t, n)
	s := start(t)
	crowd(t, s, n)
	sum := 0.0
	for i := range runtime.NumCPU() {
		sum += s.metric(`wsecho_connections{worker="` + strconv.Itoa(i) + `"}`)
	}
	if sum != n {
		t.Errorf("%v connections are counted, want %d", sum, n)
	}
	if fds := s.metric("process_open_fds"); fds < n {
		t.Errorf("%v descriptors are counted", fds)
	}
	for _, by := range []string{"age", "idle", "bytes"} {
		if got := strings.Count(string(s.ask("/connz?limit=1000&sort="+by)), `"peer"`); got != 1000 {
			t.Errorf("by %s: %d connections, want 1000", by, got)
		}
	}
}
