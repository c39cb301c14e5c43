// Command bench compares wsecho with other WebSocket servers. It builds them, runs each on one core
// and wsload on another, in rounds, and writes tables and charts. "make bench" calls it;
// docs/benchmarks/README.md describes the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wsecho/internal/flags"
)

// Exit statuses.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = flags.ExitUsage
	exitUnfinished = 3 // the time limit -for ended the program before all runs were made
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(mainWithStatus(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func mainWithStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if status, answered := flags.Answer("bench", err, false, help, stdout, stderr); answered {
		return status
	}
	switch err := work(ctx, s, stdout, stderr); {
	case errors.Is(err, errTimeLimit):
		fmt.Fprintln(stderr, "bench: the time limit (-for) has passed before all runs were made: repeat the command with -append to continue")
		return exitUnfinished
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "bench: interrupted: repeat the command with -append to continue")
		return exitFailed
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return exitFailed
	}
	return exitDone
}

// settings holds the values of the flags.
type settings struct {
	scenarios  names
	servers    names
	rounds     int
	duration   time.Duration
	limit      time.Duration // -for
	quiet      float64
	out        string
	appendRuns bool // -append
	render     bool
}

const envPrefix = "WSECHO_BENCH"

func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	if err := flags.Parse(fs, args, envPrefix); err != nil {
		return nil, err
	}
	if s.render && s.appendRuns {
		return nil, errors.New("-append cannot be combined with -render, which runs nothing")
	}
	return s, nil
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("bench")
	flags.Var(fs, &s.scenarios, "scenarios", nil, parseNames(scenarioNames()),
		"comma-separated `list` of scenarios: "+strings.Join(scenarioNames(), ", ")+". Empty: all")
	flags.Var(fs, &s.servers, "servers", nil, parseNames(serverNames()),
		"comma-separated `list` of servers: "+strings.Join(serverNames(), ", ")+". Empty: all")
	flags.Var(fs, &s.rounds, "rounds", 5, flags.Int(1, 1000),
		"`number` of runs of each server in each scenario. With -append, runs already recorded count")
	flags.Var(fs, &s.duration, "duration", 2*time.Second, flags.Duration(200*time.Millisecond, time.Hour),
		"measured `time` of each run; the servers' CPU time has a resolution of 10 ms")
	flags.Var(fs, &s.limit, "for", 0, flags.Duration(0, 24*time.Hour),
		"`time` after which no new run starts; the exit status is then 3, and the same command with -append continues. 0: no limit")
	flags.Var(fs, &s.quiet, "quiet", 0.3, parseShare,
		"`CPUs` that other processes and the hypervisor may use during a run, on average; a run that exceeds this is repeated, at most twice")
	flags.Var(fs, &s.out, "out", "", flags.Text,
		"`directory` for the results. Empty: docs/benchmarks if all scenarios and servers run, otherwise bin/bench/results, so that a trial does not replace the published results")
	fs.BoolVar(&s.appendRuns, "append", false, "add runs to the existing results, which must have the same commit, machine and -duration")
	fs.BoolVar(&s.render, "render", false, "run nothing: write the tables and charts again from the existing results")
	return s, fs
}

func help(w io.Writer) {
	fmt.Fprint(w, `bench compares wsecho with other WebSocket servers and writes raw data, tables and charts.
It must be run in benchmarks/.

usage: bench [flags]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
If the results are written to docs/benchmarks, the table in README.md is updated too.
The exit status is 0 if all runs were made, even if some of them failed; 1 if bench itself failed or no run is
valid; 2 if a flag is invalid; 3 if the time limit -for ended bench. SIGINT and SIGTERM end bench with status 1; completed
runs are kept, and -append continues from them.
`)
}

// names is a list of selected names. nil selects all.
type names []string

func (n names) String() string { return strings.Join(n, ",") }

func (n names) has(name string) bool {
	if n == nil {
		return true
	}
	for _, x := range n {
		if x == name {
			return true
		}
	}
	return false
}

func parseNames(known []string) func(string) (names, error) {
	return func(text string) (names, error) {
		items, err := flags.Split(text)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if !names(known).has(item) {
				return nil, fmt.Errorf("contains %q, which is not one of %s", item, strings.Join(known, ", "))
			}
		}
		return items, nil
	}
}

func parseShare(text string) (float64, error) {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(x) {
		return 0, errors.New("is not a number")
	}
	return x, flags.Between(x, 0, 1000)
}

func scenarioNames() (all []string) {
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return all
}

func serverNames() (all []string) {
	for _, s := range servers {
		all = append(all, s.name)
	}
	return all
}

// findRoot returns the root directory of the repository. The working directory must be benchmarks/.
func findRoot() (string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, "benchmarks", "peers")); err != nil {
		return "", errors.New("must be run in benchmarks/, as make bench does")
	}
	return root, nil
}

// work runs the benchmarks, or only renders the existing results, and prints the tables.
func work(ctx context.Context, s *settings, stdout, stderr io.Writer) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	published := filepath.Join(root, "docs", "benchmarks")
	out := s.out
	switch {
	case out != "":
	case s.render || (s.scenarios == nil && s.servers == nil):
		out = published
	default:
		out = filepath.Join(root, "bin", "bench", "results")
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	var r *results
	if s.render {
		r, err = readResults(out)
	} else {
		r, err = runAll(ctx, s, root, out, stderr)
	}
	if r == nil {
		return err
	}
	// Show the results so far, even if some runs could not be made.
	if failed := show(r, out, out == published, root, stdout); err == nil {
		err = failed
	}
	if r.complete(s) {
		fmt.Fprintln(stderr, "bench: results are in", out)
	}
	if err == nil && !r.anyValid(s) {
		err = errors.New("no run is valid: the results give the reason for each")
	}
	return err
}

// show writes the tables and charts to out, and prints the tables. If public is true, it also
// updates the README.
func show(r *results, out string, public bool, root string, stdout io.Writer) error {
	if err := render(r, out); err != nil {
		return err
	}
	if public && coversOverview(r) {
		if err := updateReadme(filepath.Join(root, "README.md"), r); err != nil {
			return err
		}
	}
	_, err := io.WriteString(stdout, writePage(r))
	return err
}

// complete reports whether all selected runs have been made.
func (r *results) complete(s *settings) bool {
	for _, sc := range scenarios {
		for _, x := range servers {
			if s.scenarios.has(sc.name) && s.servers.has(x.name) && r.Setting.Absent[x.name] == "" && r.roundsDone(sc.name, x.name) < s.rounds {
				return false
			}
		}
	}
	return true
}

// anyValid reports whether at least one of the selected runs is valid.
func (r *results) anyValid(s *settings) bool {
	for _, sc := range scenarios {
		for _, x := range servers {
			if s.scenarios.has(sc.name) && s.servers.has(x.name) && len(r.validReports(sc.name, x.name)) > 0 {
				return true
			}
		}
	}
	return false
}

// runAll builds the selected servers and runs the benchmarks. The results are nil if no run was
// started.
func runAll(ctx context.Context, s *settings, root, out string, stderr io.Writer) (*results, error) {
	two, err := twoCores()
	if err != nil {
		return nil, err
	}
	if err := raiseDescriptorLimit(); err != nil {
		return nil, err
	}
	b := &bench{
		dirs:  buildDirs{root: root, own: filepath.Join(root, "bin"), peers: filepath.Join(root, "bin", "bench")},
		cores: two, duration: s.duration, rounds: s.rounds, quiet: s.quiet, out: out, log: stderr,
	}
	if s.limit > 0 {
		b.end = time.Now().Add(s.limit)
	}
	for _, sc := range scenarios {
		if s.scenarios.has(sc.name) {
			b.scenarios = append(b.scenarios, sc)
		}
	}
	for _, x := range servers {
		if s.servers.has(x.name) {
			b.servers = append(b.servers, x)
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	setting, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if s.appendRuns {
		switch before, err := readResults(out); {
		case errors.Is(err, os.ErrNotExist): // there are no results yet
		case err != nil:
			return nil, err
		default:
			if err := before.Setting.checkSame(setting); err != nil {
				return nil, err
			}
			r = before
		}
	}
	r.Setting = r.Setting.merge(setting)
	return r, b.run(ctx, r)
}

// build builds the load generator and all selected servers, and returns the setting of the runs:
// commit, machine, duration and the servers' versions.
func (b *bench) build(ctx context.Context) (setting, error) {
	here, err := thisMachine()
	if err != nil {
		return setting{}, err
	}
	head, err := commit(b.dirs.root)
	if err != nil {
		return setting{}, err
	}
	set := setting{Commit: head, Machine: here, Duration: b.duration.String(), Versions: map[string]string{}, Absent: map[string]string{}}
	if err := os.MkdirAll(b.dirs.peers, 0o755); err != nil {
		return setting{}, err
	}
	if err := servers[0].build(ctx, b.dirs); err != nil { // builds wsload too
		return setting{}, err
	}
	for _, s := range b.servers {
		if s.class == classOurs {
			continue
		}
		fmt.Fprintln(b.log, "build ", s.name)
		err := s.build(ctx, b.dirs)
		switch {
		case errors.Is(err, errAbsent):
			set.Absent[s.name] = err.Error()
			fmt.Fprintf(b.log, "skip   %s: %v\n", s.name, err)
			continue
		case err != nil:
			return setting{}, err
		}
		if set.Versions[s.name], err = s.version(b.dirs); err != nil {
			return setting{}, err
		}
	}
	return set, nil
}

// merge returns the later setting, completed with the servers that only s knows: different servers
// may have been selected then.
func (s setting) merge(later setting) setting {
	for name, version := range s.Versions {
		if later.Versions[name] == "" {
			later.Versions[name] = version
		}
	}
	for name, reason := range s.Absent {
		if later.Absent[name] == "" && later.Versions[name] == "" {
			later.Absent[name] = reason
		}
	}
	return later
}
