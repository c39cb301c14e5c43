package generate

import (
	"os"
	"testing"

	"wsecho/internal/leak"
)

// TestMain checks once, for all tests, that nothing is left open or running.
func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
