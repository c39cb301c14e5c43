package admin

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// A queue has a handler answer some requests at once, while others wait for their turn, which they
// get in the order in which they came. A request that waits for too long, or finds too many
// waiting, is refused with 503. One that waits holds nothing but its connection, some 20 KiB.
type queue struct {
	handler http.Handler
	turns   chan struct{} // its capacity: how many are answered at once
	most    int           // how many may wait
	wait    time.Duration
	waiting atomic.Int64
}

func newQueue(handler http.Handler, atOnce, most int, wait time.Duration) *queue {
	return &queue{handler: handler, turns: make(chan struct{}, atOnce), most: most, wait: wait}
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := q.takeTurn(r.Context()); why != "" {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		http.Error(w, fmt.Sprintf("%d requests for %s are being answered, and %s: try again later", cap(q.turns), r.URL.Path, why),
			http.StatusServiceUnavailable)
		return
	}
	defer func() { <-q.turns }()
	q.handler.ServeHTTP(w, r)
}

// takeTurn returns the reason if there is no turn.
func (q *queue) takeTurn(ctx context.Context) (why string) {
	select {
	case q.turns <- struct{}{}:
		return ""
	default:
	}
	defer q.waiting.Add(-1)
	if q.waiting.Add(1) > int64(q.most) {
		return fmt.Sprintf("%d others wait", q.most)
	}
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	select {
	case q.turns <- struct{}{}:
		return ""
	case <-ctx.Done():
		return fmt.Sprintf("no turn came within %v", q.wait)
	}
}
