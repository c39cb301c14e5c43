package generate

import (
	"os"
	"testing"

	"wsecho/internal/leak"
)

// TestMain runs the tests and then checks that no descriptor or goroutine has leaked.
func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
