package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// counter is a handler of which each request takes as long as it is told to.
type counter struct {
	began chan int // a request has its turn
	end   chan int // and is to be answered
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.began <- 1
	<-c.end
}

// visits sends requests to a queue, and delivers the answers.
type visits struct {
	queue   *queue
	counter *counter
	answers chan *httptest.ResponseRecorder
}

func visit(atOnce, most int, wait time.Duration) *visits {
	c := &counter{began: make(chan int), end: make(chan int)}
	return &visits{newQueue(c, atOnce, most, wait), c, make(chan *httptest.ResponseRecorder, 10)}
}

func (v *visits) comes(ctx context.Context) {
	w := httptest.NewRecorder()
	v.queue.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics?x", nil))
	v.answers <- w
}

func (v *visits) wants(t *testing.T, status int, body string) {
	t.Helper()
	a := <-v.answers
	if a.Code != status || a.Body.String() != body {
		t.Errorf("%d, %q; want %d, %q", a.Code, a.Body, status, body)
	}
	if h := a.Header(); status != http.StatusOK && (h.Get("Retry-After") != "1" || h.Get("Connection") != "close") {
		t.Errorf("refused with %v", h)
	}
}

func (v *visits) wantsEmpty(t *testing.T) {
	t.Helper()
	if len(v.queue.turns) != 0 || v.queue.waiting.Load() != 0 {
		t.Errorf("%d turns are taken, and %d wait", len(v.queue.turns), v.queue.waiting.Load())
	}
}

// Two are answered at once, two wait, and one more is refused without waiting.
func TestQueueIsFull(t *testing.T) {
	v := visit(2, 2, time.Hour)
	for range 4 {
		go v.comes(t.Context())
	}
	<-v.counter.began
	<-v.counter.began
	waitFor(t, "two wait", func() bool { return v.queue.waiting.Load() == 2 })
	v.comes(t.Context())
	v.wants(t, http.StatusServiceUnavailable, "2 requests for /metrics are in progress, and 2 more are waiting: try again later\n")
	for range 2 {
		v.counter.end <- 1
		v.wants(t, http.StatusOK, "")
		<-v.counter.began // the turn is one of those that waited
	}
	for range 2 {
		v.counter.end <- 1
		v.wants(t, http.StatusOK, "")
	}
	v.wantsEmpty(t)
}

// A request that waits for too long is refused, and one whose client has gone waits no longer.
func TestQueueIsSlow(t *testing.T) {
	v := visit(1, 2, 10*time.Millisecond)
	go v.comes(t.Context())
	<-v.counter.began
	v.comes(t.Context())
	v.wants(t, http.StatusServiceUnavailable, "1 requests for /metrics are in progress, and this one has waited 10ms: try again later\n")
	v.queue.wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.comes(ctx)
	<-v.answers
	v.counter.end <- 1
	v.wants(t, http.StatusOK, "")
	v.wantsEmpty(t)
}
