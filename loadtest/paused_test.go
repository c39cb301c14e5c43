package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A run with -paused lasts as long as one without if the process is not stopped. A file that cannot
// be used is an error.
func TestPausedTimeDoesNotCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "paused")
	if err := os.WriteFile(file, binary.NativeEndian.AppendUint64(nil, uint64(time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := startServer(t)
	r := wsload(t, server.url, "-paused", file)
	r.wantErrors()
	if r.wantMessages(); r.Duration != 0.2 {
		t.Errorf("200 ms are %v s", r.Duration)
	}
	short := filepath.Join(t.TempDir(), "short")
	os.WriteFile(short, []byte("1234567"), 0o600)
	for _, path := range []string{short, filepath.Join(t.TempDir(), "nothing")} {
		r := wsloadText(t, "-url", server.url, "-paused", path)
		if r.status != exitFailed || !strings.Contains(r.stderr, "-paused "+path) {
			t.Errorf("%s: exit status %d, %s", path, r.status, r.stderr)
		}
	}
}
