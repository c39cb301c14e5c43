package admin

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// A queue limits the number of requests that a handler answers at the same time. Further requests
// wait in order of arrival. A request is refused with 503 if it waits for too long or if too many
// are waiting already. A waiting request holds only its connection, about 20 KiB.
type queue struct {
	handler http.Handler
	sem     chan struct{} // has one element per request in progress
	most    int           // maximum of waiting
	wait    time.Duration // maximum time that a request waits
	waiting atomic.Int64  // number of waiting requests
}

func newQueue(handler http.Handler, atOnce, most int, wait time.Duration) *queue {
	return &queue{handler: handler, sem: make(chan struct{}, atOnce), most: most, wait: wait}
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := q.acquire(r.Context()); why != "" {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		http.Error(w, fmt.Sprintf("%d requests for %s are in progress, and %s: try again later", cap(q.sem), r.URL.Path, why),
			http.StatusServiceUnavailable)
		return
	}
	defer func() { <-q.sem }()
	q.handler.ServeHTTP(w, r)
}

// acquire waits until the request may be answered. It returns an empty string, or the reason why it
// is refused.
func (q *queue) acquire(ctx context.Context) (why string) {
	select {
	case q.sem <- struct{}{}:
		return ""
	default:
	}
	defer q.waiting.Add(-1)
	if q.waiting.Add(1) > int64(q.most) {
		return fmt.Sprintf("%d more are waiting", q.most)
	}
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	select {
	case q.sem <- struct{}{}:
		return ""
	case <-ctx.Done():
		return fmt.Sprintf("this one has waited %v", q.wait)
	}
}
