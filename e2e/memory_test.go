package e2e

import "testing"

// A connection that has spoken and is silent again keeps nothing but its slot.
func TestMemoryOfIdleConnections(t *testing.T) {
	const n, limit = 15_000, 150
	if raceEnabled {
		t.Skip("the race detector's shadow is not the server's memory")
	}
	needDescriptors(t, n)
	s := start(t)
	cold := s.residentBytes()
	// What costs once, the code it takes to serve anybody and the workers' buffers, is not the connections' to pay.
	for _, w := range crowd(t, s, 100) {
		if err := closeCleanly(w); err != nil {
			t.Fatal(err)
		}
	}
	before := s.residentBytes()
	crowd(t, s, n)
	after := s.residentBytes()

	each := float64(after-before) / n
	t.Logf("%.0f bytes a connection: %d KiB resident at start, %d once warm, %d with %d connections idle",
		each, cold>>10, before>>10, after>>10, n)
	if each > limit {
		t.Errorf("%.0f bytes a connection, want no more than %d", each, limit)
	}
}
