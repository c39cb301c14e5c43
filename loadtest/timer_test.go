package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Somebody stops and continues a process as often as he likes: what it measures is as if he had not.
func TestPausedTimeDoesNotCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "paused")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keep := func(paused time.Duration) {
		if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(paused)), 0); err != nil {
			t.Fatal(err)
		}
	}
	keep(time.Hour) // before it began
	paused, err := pausedTime(file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	clock := newTimer(paused)
	if now := clock.now(); now < 0 || now > int64(time.Since(began)) {
		t.Errorf("it begins at %v", time.Duration(now))
	}
	keep(time.Hour + time.Minute)
	if now := clock.now(); now < -int64(time.Minute) || now > int64(time.Since(began)-time.Minute) {
		t.Errorf("after a minute that did not count it is %v", time.Duration(now))
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
