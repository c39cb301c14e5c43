package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A counter is a handler that reports the beginning of each request, and answers it when the test
// says so.
type counter struct {
	began chan int // receives an element when a request has its turn
	end   chan int // an element lets one request be answered
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.began <- 1
	<-c.end
}

// visits sends requests to a queue, and delivers the responses.
type visits struct {
	queue   *queue
	counter *counter
	answers chan *httptest.ResponseRecorder
}

func newVisits(atOnce, most int, wait time.Duration) *visits {
	c := &counter{began: make(chan int), end: make(chan int)}
	return &visits{newQueue(c, atOnce, most, wait), c, make(chan *httptest.ResponseRecorder, 10)}
}

func (v *visits) requests(ctx context.Context) {
	w := httptest.NewRecorder()
	v.queue.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics?x", nil))
	v.answers <- w
}

func (v *visits) wants(t *testing.T, status int, body string) {
	t.Helper()
	a := <-v.answers
	if a.Code != status || a.Body.String() != body {
		t.Errorf("got status %d, body %q; want %d, %q", a.Code, a.Body, status, body)
	}
	if h := a.Header(); status != http.StatusOK && (h.Get("Retry-After") != "1" || h.Get("Connection") != "close") {
		t.Errorf("got header %v, want Retry-After and Connection: close", h)
	}
}

func (v *visits) wantsEmpty(t *testing.T) {
	t.Helper()
	if len(v.queue.sem) != 0 || v.queue.waiting.Load() != 0 {
		t.Errorf("got %d requests in progress and %d waiting, want none", len(v.queue.sem), v.queue.waiting.Load())
	}
}

// Of five requests two are answered at the same time, two wait, and one is refused at once.
func TestFullQueueRefuses(t *testing.T) {
	v := newVisits(2, 2, time.Hour)
	for range 4 {
		go v.requests(t.Context())
	}
	<-v.counter.began
	<-v.counter.began
	waitFor(t, "two requests are waiting", func() bool { return v.queue.waiting.Load() == 2 })
	v.requests(t.Context())
	v.wants(t, http.StatusServiceUnavailable, "2 requests for /metrics are in progress, and 2 more are waiting: try again later\n")
	for range 2 {
		v.counter.end <- 1
		v.wants(t, http.StatusOK, "")
		<-v.counter.began // the turn passes to a waiting request
	}
	for range 2 {
		v.counter.end <- 1
		v.wants(t, http.StatusOK, "")
	}
	v.wantsEmpty(t)
}

// A request that waits for too long is refused. A request whose client disconnects stops waiting.
func TestQueueRefusesAfterWait(t *testing.T) {
	v := newVisits(1, 2, 10*time.Millisecond)
	go v.requests(t.Context())
	<-v.counter.began
	v.requests(t.Context())
	v.wants(t, http.StatusServiceUnavailable, "1 requests for /metrics are in progress, and this one has waited 10ms: try again later\n")
	v.queue.wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.requests(ctx)
	<-v.answers
	v.counter.end <- 1
	v.wants(t, http.StatusOK, "")
	v.wantsEmpty(t)
}
