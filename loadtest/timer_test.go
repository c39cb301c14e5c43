package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Somebody stops and continues a process as often as he likes: what it measures is as if he had not. Here the process goes on, and
// only its clock is stopped, so that what it takes for 200 ms lasts a second.
func TestPausedTimeDoesNotCount(t *testing.T) {
	server := startServer(t)
	file := filepath.Join(t.TempDir(), "paused")
	var paused uint64
	keep := func() {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.Write(binary.NativeEndian.AppendUint64(nil, paused)) // in place: it is mapped
			f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	keep()
	over, kept := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(kept)
		for last := began; ; {
			select {
			case <-over:
				return
			case now := <-time.After(10 * time.Millisecond):
				paused += uint64(now.Sub(last)) / 5 * 4 // four fifths of the time
				last = now
				keep()
			}
		}
	}()
	r := wsload(t, server.url, "-paused", file)
	close(over)
	<-kept
	r.wantErrors()
	if took := time.Since(began); took < 900*time.Millisecond || r.Duration != 0.2 || r.Messages == 0 {
		t.Errorf("%v s, which took %v, and %d messages", r.Duration, took, r.Messages)
	}
	for name, text := range map[string]string{"short": "1234567", "": ""} {
		path := filepath.Join(t.TempDir(), "paused"+name)
		if name != "" {
			os.WriteFile(path, []byte(text), 0o600)
		}
		r := wsloadText(t, "-url", server.url, "-paused", path)
		if r.status != exitFailed || !strings.Contains(r.stderr, "-paused "+path) {
			t.Errorf("%q: exit status %d, %s", name, r.status, r.stderr)
		}
	}
}
