package hijack

import (
	"os"
	"testing"

	"wsecho/internal/leak"
	"wsecho/internal/pool"
)

// TestMain checks once, for all tests, that nothing is left open or running.
func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// counters returns the pool's counters.
func counters(t *testing.T, p *pool.Pool) pool.Counters {
	t.Helper()
	s, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Counters
}
