package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wsecho/internal/flags"
	"wsecho/internal/pool"
)

func TestMain(m *testing.M) {
	status := m.Run()
	for _, line := range skipped {
		fmt.Println("skipped:", line) // go test prints this only with -v
	}
	os.Exit(status)
}

// skipped lists the tests that this machine could not run, with reasons. Tests that may skip must
// not be parallel.
var skipped []string

// unavailable skips a test that this machine cannot run. In CI, where every test must run, it fails
// the test.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("required in CI: "+format, args...)
	}
	skipped = append(skipped, t.Name()+": "+fmt.Sprintf(format, args...))
	t.SkipNow()
}

// repository returns the root directory of the repository.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestInvalidFlagsAreNamed(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-scenarios small,tiny", `"tiny"`},
		{"-servers apache", `"apache"`},
		{"-rounds 0", "is not between"},
		{"-duration 1ms", "is not between"},
		{"-quiet much", "is not a number"},
		{"-render -append", "-append"},
		{"small", "unexpected argument"},
	} {
		var stderr bytes.Buffer
		if status := mainWithStatus(t.Context(), strings.Fields(c.args), nil, &stderr); status != exitUsage || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: status %d, %q; want %d and %q", c.args, status, &stderr, exitUsage, c.want)
		}
	}
}

// docs/benchmarks/README.md documents every flag, scenario and server, and -h every flag.
func TestDocumentationIsComplete(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(repository(t), "docs", "benchmarks", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var usage bytes.Buffer
	help(&usage)
	_, fs := newSettings()
	var explained bytes.Buffer
	flags.Explain(&explained, fs, envPrefix)
	for line := range strings.Lines(explained.String()) {
		if name, found := strings.CutPrefix(line, "  -"); found {
			name, _, _ = strings.Cut(name, " ")
			if !strings.Contains(string(page), "`-"+name+"`") {
				t.Errorf("docs/benchmarks/README.md does not explain -%s", name)
			}
			if !strings.Contains(usage.String(), "-"+name) {
				t.Errorf("-h does not explain -%s", name)
			}
		}
	}
	for _, name := range append(scenarioNames(), serverNames()...) {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("docs/benchmarks/README.md has no row for %s", name)
		}
	}
}

// floor and gnet are given a buffer of the same size as wsecho's.
func TestPeersHaveTheBufferSizeOfWsecho(t *testing.T) {
	if pool.BufferSize != readBuffer {
		t.Errorf("the peers' buffer is %d KiB, want %d KiB, as wsecho's", readBuffer>>10, pool.BufferSize>>10)
	}
}

// The whole process, with two servers and one scenario: build, run, write, continue.
func TestBenchRunsAndContinues(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	b := &bench{dirs: buildPrograms(t), cores: two, duration: 200 * time.Millisecond, rounds: 1, quiet: 1000, out: t.TempDir(), log: testLog{t}}
	b.scenarios, b.servers = scenarios[:1], []server{servers[0], mustServer(t, "gws")}
	if err := b.servers[1].build(t.Context(), b.dirs); err != nil {
		t.Fatal(err)
	}
	r := &results{}
	if err := b.run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, s := range b.servers {
		x := summarize(r, b.scenarios[0], s)
		if x.rate.N != 1 || x.rate.Median <= 0 || x.cpu.Median <= 0 || x.p99.Median <= 0 || x.rss.Median <= 0 {
			t.Errorf("%s: got figures %+v, want 1 run with positive values", s.name, x)
		}
	}
	first := r.Runs[0]

	again, err := readResults(b.out)
	if err != nil {
		t.Fatal(err)
	}
	b.rounds = 2
	if err := b.run(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if len(again.Runs) != 4 || again.Runs[0].Began != first.Began || again.Runs[3].Round != 2 {
		t.Errorf("after continuing: got runs %+v, want 4, the first of them unchanged", again.Runs)
	}
	if err := render(again, b.out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{resultsFile, "results.md", "small.svg"} {
		if _, err := os.Stat(filepath.Join(b.out, name)); err != nil {
			t.Error(err)
		}
	}
	// If every run exceeds -quiet, the least disturbed one is valid and the others are discarded.
	b.rounds, b.quiet, b.servers = 3, -1, b.servers[:1]
	if err := b.run(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if len(again.Runs) != 5 || len(again.Discarded) != maxTries-1 {
		t.Fatalf("with every run disturbed: got %d runs and %d discarded, want 5 and %d", len(again.Runs), len(again.Discarded), maxTries-1)
	}
	for _, x := range again.Discarded {
		if x.disturbance() < again.Runs[4].disturbance() {
			t.Errorf("the run with a disturbance of %v was kept, and the one with %v discarded", again.Runs[4].disturbance(), x.disturbance())
		}
	}
	b.rounds, b.end = 4, time.Now()
	if err := b.run(t.Context(), again); err != errTimeLimit {
		t.Errorf("after the time limit: got error %v, want %v", err, errTimeLimit)
	}
}

func TestServerFailuresAreReported(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	dirs := buildPrograms(t)
	b := &bench{dirs: dirs, cores: two, duration: 200 * time.Millisecond}
	gws := mustServer(t, "gws")

	measure := func(s server) run {
		runs, err := b.measure(t.Context(), scenarios[0], []server{s})
		if err != nil {
			t.Fatal(err)
		}
		return runs[0]
	}
	// The binary does not exist.
	if x := measure(gws); !strings.Contains(x.Failed, "no such file") {
		t.Errorf("missing binary: got %q, want \"no such file\"", x.Failed)
	}
	// The server exits at once.
	script(t, dirs.peerBinary("gws"), "echo out of luck; exit 7")
	if x := measure(gws); !strings.Contains(x.Failed, "exit status 7: out of luck") {
		t.Errorf("server that exits: got %q, want its exit status and output", x.Failed)
	}
	// The server exits under load. The server measured with it is not affected.
	script(t, dirs.peerBinary("gws"), `exec timeout 0.3 `+dirs.wsecho()+` -listen "$2" -admin none`)
	runs, err := b.measure(t.Context(), scenarios[0], []server{gws, servers[0]})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(runs[0].Failed, "the server exited") || runs[1].Failed != "" || runs[1].Load.Messages == 0 {
		t.Errorf("server that exits under load: got %q, want \"the server exited\"; other server: got %+v, want a valid run", runs[0].Failed, runs[1])
	}
	// An interrupt returns no result.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.measure(ctx, scenarios[0], servers[:1]); err != context.Canceled {
		t.Errorf("interrupted: got error %v, want %v", err, context.Canceled)
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// buildPrograms builds wsecho and wsload into a temporary directory.
func buildPrograms(t *testing.T) buildDirs {
	t.Helper()
	dir := t.TempDir()
	dirs := buildDirs{root: repository(t), own: dir, peers: dir}
	for output, pkg := range map[string]string{dirs.wsecho(): "./cmd/server", dirs.wsload(): "./loadtest"} {
		if err := runTool(t.Context(), dirs.root, "go", "build", "-o", output, pkg); err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

func mustServer(t *testing.T, name string) server {
	t.Helper()
	s, known := serverNamed(name)
	if !known {
		t.Fatalf("unknown server %q", name)
	}
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// The order of the servers differs between rounds, and is the same whenever a round is repeated.
func TestServerOrderPerRound(t *testing.T) {
	order := func(round int) (all []string) {
		for _, s := range shuffled(servers, round, "small") {
			all = append(all, s.name)
		}
		return all
	}
	one, two := fmt.Sprint(order(1)), fmt.Sprint(order(2))
	if one == two || one != fmt.Sprint(order(1)) {
		t.Errorf("got order %v in round 1, %v in round 2, %v in round 1 again; want 1 and 2 to differ, and 1 to repeat", one, two, order(1))
	}
	if len(order(1)) != len(servers) {
		t.Errorf("got %d servers in a round, want %d", len(order(1)), len(servers))
	}
}

// A child process is pinned to one core, and this process keeps its own affinity.
func TestChildIsPinnedToOneCore(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	nproc, err := exec.LookPath("nproc")
	if err != nil {
		unavailable(t, "program nproc is not installed")
	}
	cmd := exec.Command(nproc)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := startOn(two.load, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != "1" {
		t.Errorf("nproc: got %q, %v; want 1 CPU", &out, err)
	}
	if after, err := twoCores(); err != nil || after != two {
		t.Errorf("cores of this process: got %v, %v; want %v as before", after, err, two)
	}
}
