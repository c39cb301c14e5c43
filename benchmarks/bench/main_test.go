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
		fmt.Println("skipped:", line) // which go test does not say by itself
	}
	os.Exit(status)
}

// skipped are the tests that this machine could not run, and why. No test that skips is parallel.
var skipped []string

// unavailable skips a test that this machine cannot run. CI is where every test must run, so there it fails.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have it: "+format, args...)
	}
	skipped = append(skipped, t.Name()+": "+fmt.Sprintf(format, args...))
	t.SkipNow()
}

// repository is its root.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestWrongFlagsAreNamed(t *testing.T) {
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

// The page that says how it is measured must name every flag, scenario and server, and the server's -h every flag.
func TestAllIsExplained(t *testing.T) {
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

// The floor and gnet have the buffer that wsecho has.
func TestBufferIsTheServers(t *testing.T) {
	if pool.BufferSize != readBuffer {
		t.Errorf("wsecho's buffer has %d KiB, and the peers are given %d", pool.BufferSize>>10, readBuffer>>10)
	}
}

// Everything once, with two servers and one scenario: build, run, write, take up again.
func TestBenchRunsAndGoesOn(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	b := &bench{workshop: built(t), cores: two, duration: 200 * time.Millisecond, rounds: 1, quiet: 1000, out: t.TempDir(), log: testLog{t}}
	b.scenarios, b.servers = scenarios[:1], []server{servers[0], mustServer(t, "gws")}
	if err := b.servers[1].build(t.Context(), b.workshop); err != nil {
		t.Fatal(err)
	}
	r := &results{}
	if err := b.run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, s := range b.servers {
		x := summarize(r, b.scenarios[0], s)
		if x.rate.N != 1 || x.rate.Median <= 0 || x.cpu.Median <= 0 || x.p99.Median <= 0 || x.rss.Median <= 0 {
			t.Errorf("%s has these figures: %+v", s.name, x)
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
		t.Errorf("after going on there are these runs: %+v", again.Runs)
	}
	if err := render(again, b.out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{resultsFile, "results.md", "small.svg"} {
		if _, err := os.Stat(filepath.Join(b.out, name)); err != nil {
			t.Error(err)
		}
	}
	// Where it is never quiet enough, the run that was disturbed least counts, and the others are kept.
	b.rounds, b.quiet, b.servers = 3, -1, b.servers[:1]
	if err := b.run(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if len(again.Runs) != 5 || len(again.Discarded) != mostTries-1 {
		t.Fatalf("in noise there are %d runs, and %d discarded", len(again.Runs), len(again.Discarded))
	}
	for _, x := range again.Discarded {
		if x.disturbance() < again.Runs[4].disturbance() {
			t.Errorf("a run with a disturbance of %v counts, and one with %v does not", again.Runs[4].disturbance(), x.disturbance())
		}
	}
	b.rounds, b.end = 4, time.Now()
	if err := b.run(t.Context(), again); err != errTimeIsUp {
		t.Errorf("when the time is over it says: %v", err)
	}
}

func TestServersThatFailAreTold(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	w := built(t)
	b := &bench{workshop: w, cores: two, duration: 200 * time.Millisecond}
	gws := mustServer(t, "gws")

	measure := func(s server) run {
		runs, err := b.measure(t.Context(), scenarios[0], []server{s})
		if err != nil {
			t.Fatal(err)
		}
		return runs[0]
	}
	// A server that never was.
	if x := measure(gws); !strings.Contains(x.Failed, "no such file") {
		t.Errorf("a missing server: %q", x.Failed)
	}
	// One that ends at once.
	script(t, w.path("gws"), "echo out of luck; exit 7")
	if x := measure(gws); !strings.Contains(x.Failed, "exit status 7: out of luck") {
		t.Errorf("a server that ends: %q", x.Failed)
	}
	// One that ends under its load takes nothing from those beside it.
	script(t, w.path("gws"), `exec timeout 0.3 `+w.wsecho()+` -listen "$2" -admin none`)
	runs, err := b.measure(t.Context(), scenarios[0], []server{gws, servers[0]})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(runs[0].Failed, "the server has ended") || runs[1].Failed != "" || runs[1].Load.Messages == 0 {
		t.Errorf("a server that ends under its load: %q; beside it: %+v", runs[0].Failed, runs[1])
	}
	// Whoever interrupts it wants no result.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.measure(ctx, scenarios[0], servers[:1]); err != context.Canceled {
		t.Errorf("interrupted: %v", err)
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// built is a workshop with wsecho and wsload in it.
func built(t *testing.T) workshop {
	t.Helper()
	dir := t.TempDir()
	w := workshop{root: repository(t), ours: dir, bin: dir}
	for output, pkg := range map[string]string{w.wsecho(): "./cmd/server", w.wsload(): "./loadtest"} {
		if err := tool(t.Context(), w.root, "go", "build", "-o", output, pkg); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func mustServer(t *testing.T, name string) server {
	t.Helper()
	s, known := serverNamed(name)
	if !known {
		t.Fatalf("there is no server %s", name)
	}
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// Each round has its own order, and the same when it is taken up again.
func TestOrderOfRounds(t *testing.T) {
	order := func(round int) (all []string) {
		for _, s := range shuffled(servers, round, "small") {
			all = append(all, s.name)
		}
		return all
	}
	one, two := fmt.Sprint(order(1)), fmt.Sprint(order(2))
	if one == two || one != fmt.Sprint(order(1)) {
		t.Errorf("round 1: %v, round 2: %v, round 1 again: %v", one, two, order(1))
	}
	if len(order(1)) != len(servers) {
		t.Error("a round leaves servers out")
	}
}

// A child has one core, and Go programs see that.
func TestServersHaveOneCore(t *testing.T) {
	two, err := twoCores()
	if err != nil {
		unavailable(t, "%v", err)
	}
	nproc, err := exec.LookPath("nproc")
	if err != nil {
		unavailable(t, "no nproc here")
	}
	cmd := exec.Command(nproc)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := startOn(two.load, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != "1" {
		t.Errorf("the child sees %q CPUs, %v", &out, err)
	}
	if after, err := twoCores(); err != nil || after != two {
		t.Errorf("afterwards we have %v, %v; before %v", after, err, two)
	}
}
