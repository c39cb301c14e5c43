package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The server for arm64 serves, echoes and drains under qemu-user. Both wsload for this machine and
// wsload for arm64 compare every byte of its echoes, and fail if there is any error.
func TestARM64(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs cgo, and so a C compiler for arm64")
	}
	qemu := program(t, "qemu-aarch64-static")
	dir := t.TempDir()
	native := filepath.Join(dir, "wsload")
	if err := build(native, "wsecho/loadtest"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/server", "./loadtest")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}

	s := startCmd(t, exec.Command(qemu, append([]string{filepath.Join(dir, "server")}, onAnyPort([]string{"-workers", "2"})...)...))
	if !s.ready() {
		t.Error("the server is not ready")
	}
	// One payload is too short for vectors, and one so long that its frames are cut through.
	flags := []string{"-payload", "100,1KiB,64KiB,300KiB", "-connections", "8", "-warmup", "0s", "-duration", "300ms", "-timeout", "1m", s.url()}
	for _, kind := range []string{"binary", "text", "unicode"} {
		runClient(t, native, append([]string{"-type", kind}, flags...)...)
		runClient(t, qemu, append([]string{filepath.Join(dir, "loadtest"), "-type", kind}, flags...)...)
	}

	p := s.upgrade(t)
	s.signal(syscall.SIGTERM)
	p.wantFailWith(1001)
	p.send(closeFrame(1001, ""))
	p.wantEOF()
	s.wantStopped()
}
