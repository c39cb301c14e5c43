package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Only time that is added to the file during the run is excluded. An unusable file is an error.
func TestPausedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "paused")
	if err := os.WriteFile(file, binary.NativeEndian.AppendUint64(nil, uint64(time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := startServer(t)
	r := wsload(t, server.url, "-paused", file)
	r.wantErrors()
	if r.wantMessages(); r.Duration != 0.2 {
		t.Errorf("measured for %v s, want 0.2 s", r.Duration)
	}
	short := filepath.Join(t.TempDir(), "short")
	os.WriteFile(short, []byte("1234567"), 0o600)
	for _, path := range []string{short, filepath.Join(t.TempDir(), "nothing")} {
		r := wsloadText(t, "-url", server.url, "-paused", path)
		if r.status != exitFailed || !strings.Contains(r.stderr, "-paused "+path) {
			t.Errorf("%s: got exit status %d, %s", path, r.status, r.stderr)
		}
	}
}
