package pool

import (
	"context"
	"errors"
	"fmt"
)

// Healthy checks that every worker answers a message between two turns. It wakes workers that sleep
// in epoll_wait, and waits until all have answered or ctx is done.
//
// The error names the workers that have failed and those that have not answered. A worker that has
// ended because the pool was shut down is healthy.
func (p *Pool) Healthy(ctx context.Context) error {
	answers := make([]<-chan struct{}, len(p.workers))
	for i, w := range p.workers {
		answers[i] = ask(w, func(*worker) struct{} { return struct{}{} })
	}
	var wrong []error
	for i, w := range p.workers {
		switch _, err := waitForAnswer(ctx, w, answers[i]); {
		case err == errEnded && w.failure != nil:
			wrong = append(wrong, fmt.Errorf("worker %d has ended: %w", i, w.failure))
		case err != nil && err != errEnded:
			wrong = append(wrong, fmt.Errorf("worker %d does not answer: %w", i, err))
		}
	}
	return errors.Join(wrong...)
}
