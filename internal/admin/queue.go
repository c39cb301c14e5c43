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
	turns   chan struct{} // has an element per request that is being answered
	most    int           // maximum of waiting
	wait    time.Duration // maximum time that a request waits
	waiting atomic.Int64  // number of waiting requests
}

func newQueue(handler http.Handler, atOnce, most int, wait time.Duration) *queue {
	return &queue{handler: handler, turns: make(chan struct{}, atOnce), most: most, wait: wait}
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := q.takeTurn(r.Context()); why != "" {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		http.Error(w, fmt.Sprintf("%d requests for %s are in progress, and %s: try again later", cap(q.turns), r.URL.Path, why),
			http.StatusServiceUnavailable)
		return
	}
	defer func() { <-q.turns }()
	q.handler.ServeHTTP(w, r)
}

// takeTurn waits for a turn. It returns an empty string, or the reason why there is none.
func (q *queue) takeTurn(ctx context.Context) (why string) {
	select {
	case q.turns <- struct{}{}:
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
	case q.turns <- struct{}{}:
		return ""
	case <-ctx.Done():
		return fmt.Sprintf("this one has waited %v", q.wait)
	}
}
