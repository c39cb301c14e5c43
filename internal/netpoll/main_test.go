package netpoll

import (
	"os"
	"testing"

	"wsecho/internal/leak"
)

// TestMain checks after all tests that they have leaked no goroutines and descriptors.
func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
