package pool

import (
	"context"
	"errors"
	"fmt"
)

// Turning asks every worker whether its loop turns: each answers a letter between two
// turns, and one that sleeps in epoll_wait is woken for that. It waits no longer than ctx allows.
//
// The error names the workers that have not answered by then, and those that could not go on.
// A worker that has ended because the pool has shut down is nothing wrong.
func (p *Pool) Turning(ctx context.Context) error {
	answers := make([]<-chan struct{}, len(p.workers))
	for i, w := range p.workers {
		answers[i] = ask(w, func(*worker) struct{} { return struct{}{} })
	}
	var wrong []error
	for i, w := range p.workers {
		select {
		case <-answers[i]:
			continue // even if ctx is over by now
		default:
		}
		select {
		case <-answers[i]:
		case <-w.ended:
			if w.failure != nil {
				wrong = append(wrong, fmt.Errorf("worker %d has ended: %w", i, w.failure))
			}
		case <-ctx.Done():
			wrong = append(wrong, fmt.Errorf("worker %d does not answer: %w", i, context.Cause(ctx)))
		}
	}
	return errors.Join(wrong...)
}
