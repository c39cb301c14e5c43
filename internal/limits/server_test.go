package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The documents state the maximum resident memory and the number of descriptors that connections may
// not use, with the figures of server.go.
func TestDocumentsStateWhatTheServerNeeds(t *testing.T) {
	const mib = 1 << 20
	for page, want := range map[string]string{
		"operation.md": fmt.Sprintf("(%d MiB, of which 10 are pages of the binary; %d MiB more after the first scrape) + %d MiB + 512 KiB × workers + %d B × connections + 65/64 × -buffer-budget",
			StartMemory/mib, ScrapeMemory/mib, HeapGrowth/mib, SlotMemory),
		"flags.md": fmt.Sprintf("(%d + %d per worker, at most a quarter of the limit)", ProcessDescriptors, WorkerDescriptors),
	} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
			t.Errorf("docs/%s does not say %q", page, want)
		}
	}
}

func TestServerNeeds(t *testing.T) {
	s := Server{Workers: 2, BufferSize: 256 << 10, BufferBudget: 64 << 20}
	if got, want := s.Descriptors(), int64(128+2*66); got != want {
		t.Errorf("Descriptors: got %d, want %d", got, want)
	}
	if got, want := s.Memory(), int64((12+4+4+1+64+1)<<20); got != want {
		t.Errorf("Memory: got %d bytes, want %d", got, want)
	}
}
