// Package image tests the Dockerfile without Docker: it lints the file, builds the binary with the
// file's command, and runs it in an empty root directory.
package image

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
)

const (
	root        = "../.."
	waitTimeout = 15 * time.Second
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// stages returns the Dockerfile's two stages: the build and the image.
func stages(t *testing.T) (build, image instructions.Stage) {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("got %d stages, want 2", len(all))
	}
	return all[0], all[1]
}

// only returns the single instruction of its kind in a stage.
func only[T any](t *testing.T, s instructions.Stage) (found T) {
	t.Helper()
	n := 0
	for _, c := range s.Commands {
		if c, ok := c.(T); ok {
			found = c
			n++
		}
	}
	if n != 1 {
		t.Fatalf("stage %s: got %d instructions %T, want 1", s.BaseName, n, found)
	}
	return found
}

// lint returns the warnings of docker build --check.
func lint(t *testing.T, dockerfile []byte) (warnings []string) {
	t.Helper()
	source := llb.NewSourceMap(nil, "Dockerfile", "dockerfile", dockerfile)
	source.Definition = &llb.Definition{} // must not be nil when a warning is formatted
	found, err := dockerfile2llb.DockerfileLint(t.Context(), dockerfile, dockerfile2llb.ConvertOpt{
		MetaResolver: anyImage{},
		SourceMap:    source,
	})
	if err != nil {
		t.Fatal(err)
	}
	if found.Error != nil {
		t.Fatal(found.Error.Message)
	}
	for _, w := range found.Warnings {
		warnings = append(warnings, w.RuleName+": "+w.Detail)
	}
	return warnings
}

// anyImage resolves every base image as existing, without a registry.
type anyImage struct{}

func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte(`{"architecture":"amd64","os":"linux"}`), nil
}

func (anyImage) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errors.New("images only")
}

func TestDockerfileIsClean(t *testing.T) {
	dockerfile := read(t, "Dockerfile")
	if warnings := lint(t, dockerfile); len(warnings) > 0 {
		t.Errorf("got warnings of docker build --check: %q", warnings)
	}
	wrong := bytes.Replace(dockerfile, []byte(`ENTRYPOINT ["/wsecho"]`), []byte("entrypoint /wsecho"), 1)
	if warnings := lint(t, wrong); len(warnings) == 0 {
		t.Error("the linter did not warn about an entrypoint in shell form")
	}
}

// The build context contains the files that the build needs, and no others.
func TestDockerignore(t *testing.T) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(t, ".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"go.mod": false, "Makefile": false, "cmd/server/main.go": false, "internal/pool/pool.go": false, "loadtest/main.go": false,
		".git/config": true, "bin/wsecho": true, "e2e/go.mod": true, "cmd/server/main_test.go": true, "Dockerfile": true,
	} {
		if ignored, err := matcher.MatchesOrParentMatches(path); err != nil || ignored != want {
			t.Errorf("%s: got ignored %v, %v, want %v", path, ignored, err, want)
		}
	}
}

// The binary that the Dockerfile's command builds runs in an empty root directory, as an unnamed
// user, without arguments.
func TestImageRuns(t *testing.T) {
	if os.Getuid() != 0 {
		const why = "only root can change the root directory of a process" // in CI too
		fmt.Printf("skipped: %s: %s\n", t.Name(), why)
		t.Skip(why)
	}
	build, image := stages(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	var last string
	for _, c := range build.Commands {
		if run, ok := c.(*instructions.RunCommand); ok {
			last = strings.Join(run.CmdLine, " ")
		}
	}
	make := exec.Command("sh", "-c", last)
	make.Dir = root
	make.Env = append(os.Environ(), "COMMIT=abcdef", "BIN="+t.TempDir())
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", last, err, out)
	}

	copied := only[*instructions.CopyCommand](t, image)
	from, err := filepath.Rel("/src/bin", copied.SourcePaths[0])
	if err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(make.Env[len(make.Env)-1][len("BIN="):], from)
	if static := isStatic(t, built); !static {
		t.Error("the binary needs a dynamic linker, which the image does not contain")
	}
	content, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, copied.DestPath), content, 0o755); err != nil {
		t.Fatal(err)
	}
	if user := only[*instructions.UserCommand](t, image).User; user != "65532:65532" {
		t.Errorf("got USER %s, want 65532:65532", user)
	}
	if stop := only[*instructions.StopSignalCommand](t, image).Signal; stop != "SIGTERM" {
		t.Errorf("got STOPSIGNAL %s, want SIGTERM", stop)
	}

	environment := []string{"WSECHO_LISTEN=127.0.0.1:0", "WSECHO_LOG=json", "WSECHO_ADMIN=127.0.0.1:0"}
	for _, v := range only[*instructions.EnvCommand](t, image).Env {
		environment = append(environment, v.Key+"="+v.Value)
	}
	// inside returns a command that runs as in the container.
	inside := func(commandLine ...string) *exec.Cmd {
		cmd := exec.Command(commandLine[0], commandLine[1:]...)
		cmd.Dir = "/"
		cmd.Env = environment
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}
	s := inside(only[*instructions.EntrypointCommand](t, image).CmdLine...)
	stderr, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Process.Kill()
	log := bufio.NewScanner(stderr)
	addr, admin := serving(t, log)
	echoes(t, addr)

	health := only[*instructions.HealthCheckCommand](t, image).Health
	if len(health.Test) < 2 || health.Test[0] != "CMD" {
		t.Fatalf("got HEALTHCHECK %q, want the exec form, since the image has no shell", health.Test)
	}
	if health.Timeout < 4*time.Second {
		t.Errorf("got HEALTHCHECK --timeout=%v, want at least 4s, since the check reports its own timeout after 3 s", health.Timeout)
	}
	environment[2] = "WSECHO_ADMIN=" + admin
	if out, err := inside(health.Test[1:]...).CombinedOutput(); err != nil {
		t.Errorf("got %v, %s of the health check, want success", err, out)
	}

	// docker stop, while one peer does not answer and a request to the admin server is running.
	silent := upgraded(t, addr)
	asked, err := net.Dial("tcp", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	if _, err := io.WriteString(asked, "GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: image\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(silent); err != nil || !strings.HasPrefix(string(got), "\x88\x1d\x03\xe9") {
		t.Errorf("the silent peer got %q, %v, want a close frame with 1001", got, err)
	}
	for log.Scan() {
	}
	if err := s.Wait(); err != nil {
		t.Errorf("got %v after SIGTERM, want exit status 0", err)
	}
	took := time.Since(began)
	t.Logf("a drain with a silent peer takes %v", took)
	if took > dockerStop {
		t.Errorf("docker stop would have killed the server, which it does after %v", dockerStop)
	}
	if out, err := inside(health.Test[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(out), "connection refused") {
		t.Errorf("got %v, %s of the health check after the server's end, want connection refused", err, out)
	}
}

// dockerStop is the default time after which docker stop sends SIGKILL.
const dockerStop = 10 * time.Second

func isStatic(t *testing.T, path string) bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// serving returns the addresses in the first line of the log, and checks the version in it.
func serving(t *testing.T, log *bufio.Scanner) (addr, admin string) {
	t.Helper()
	var record struct {
		Msg, Version, Admin string
		Listen              []string
	}
	if !log.Scan() {
		t.Fatal("the server exited without a log line")
	}
	if err := json.Unmarshal(log.Bytes(), &record); err != nil || record.Msg != "serving" || len(record.Listen) != 1 {
		t.Fatalf("got first log line %q, want \"serving\" with one listener", log.Text())
	}
	if !strings.HasSuffix(record.Version, "+gabcdef") {
		t.Errorf("got version %q, want the commit abcdef in it", record.Version)
	}
	return record.Listen[0], record.Admin
}

// upgraded connects, sends the frames together with the request, and returns a reader of what
// follows the handshake.
func upgraded(t *testing.T, addr string, frames ...string) io.Reader {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, waitTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * waitTimeout))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: image\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+strings.Join(frames, "")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: got %v, %v, want 101", response, err)
	}
	return r
}

func echoes(t *testing.T, addr string) {
	t.Helper()
	const hello, close = "\x81\x85\x00\x00\x00\x00hello", "\x88\x82\x00\x00\x00\x00\x03\xe8"
	if frames, err := io.ReadAll(upgraded(t, addr, hello, close)); err != nil || string(frames) != "\x81\x05hello\x88\x02\x03\xe8" {
		t.Errorf("got frames %q, %v, want the echo and the close", frames, err)
	}
}
