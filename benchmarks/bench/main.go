// Command bench measures wsecho beside its peers: it builds them, runs each on one core and wsload on another, in rounds, and writes
// tables and charts. make bench calls it; docs/benchmarks/README.md says what it measures and how.
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
	exitDone   = 0
	exitFailed = 1
	exitUsage  = flags.ExitUsage
	exitLeft   = 3 // -for is over, and runs are left
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
	case errors.Is(err, errTimeIsUp):
		fmt.Fprintln(stderr, "bench: -for is over and runs are left: the same with -append goes on")
		return exitLeft
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "bench: interrupted: the same with -append goes on")
		return exitFailed
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return exitFailed
	}
	return exitDone
}

// settings are what the command line says.
type settings struct {
	scenarios names
	servers   names
	rounds    int
	duration  time.Duration
	limit     time.Duration
	quiet     float64
	out       string
	again     bool // -append
	render    bool
}

const envPrefix = "WSECHO_BENCH"

func parse(args []string) (*settings, error) {
	s, fs := newSettings()
	if err := flags.Parse(fs, args, envPrefix); err != nil {
		return nil, err
	}
	if s.render && s.again {
		return nil, errors.New("-append: nothing is run with -render")
	}
	return s, nil
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("bench")
	flags.Var(fs, &s.scenarios, "scenarios", nil, parseNames(scenarioNames()),
		"`list` of scenarios with commas: "+strings.Join(scenarioNames(), ", ")+". None: all")
	flags.Var(fs, &s.servers, "servers", nil, parseNames(serverNames()),
		"`list` of servers with commas: "+strings.Join(serverNames(), ", ")+". None: all")
	flags.Var(fs, &s.rounds, "rounds", 5, flags.Int(1, 1000),
		"`number` of runs that each server shall have in each scenario. With -append those that are there already count")
	flags.Var(fs, &s.duration, "duration", 2*time.Second, flags.Duration(200*time.Millisecond, time.Hour),
		"`time` that is measured in each run; the servers' CPU is known in steps of 10 ms")
	flags.Var(fs, &s.limit, "for", 0, flags.Duration(0, 24*time.Hour),
		"`time` after which no run is begun; the exit status is then 3, and the same with -append goes on. 0: no limit")
	flags.Var(fs, &s.quiet, "quiet", 0.3, parseShare,
		"`CPUs` that other processes and the hypervisor may take during a run, on average; a run that has lost more is repeated, twice at most")
	flags.Var(fs, &s.out, "out", "", flags.Text,
		"`directory` for results. None: docs/benchmarks when all scenarios and servers are run, otherwise bin/bench/results, so that a trial does not replace what is published")
	fs.BoolVar(&s.again, "append", false, "go on with the results that are there, which must be of the same commit, machine and -duration")
	fs.BoolVar(&s.render, "render", false, "run nothing: write tables and charts again from the results that are there")
	return s, fs
}

func help(w io.Writer) {
	fmt.Fprint(w, `bench measures wsecho beside its peers, and writes raw data, tables and charts. It is run in benchmarks/.

usage: bench [flags]

`)
	_, fs := newSettings()
	flags.Explain(w, fs, envPrefix)
	fmt.Fprint(w, `
When the results are those in docs/benchmarks, the table in README.md is written too.
The exit status is 0 after all runs, whatever single ones had to report; 3 if -for ended them; 1 if a part failed
or no run counts, 2 if a flag is wrong. SIGINT and SIGTERM end it; runs that are complete stay, and -append goes on.
`)
}

// names is a list of what is meant; nil: all.
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
				return nil, fmt.Errorf("has %q, which is none of %s", item, strings.Join(known, ", "))
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

// findRoot is the repository's directory, seen from its benchmarks/.
func findRoot() (string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, "benchmarks", "peers")); err != nil {
		return "", errors.New("must be run in benchmarks/: make bench does")
	}
	return root, nil
}

// work does what the settings ask for.
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
	// What there is is shown even if not all could be run.
	if failed := show(r, out, out == published, root, stdout); err == nil {
		err = failed
	}
	if r.complete(s) {
		fmt.Fprintln(stderr, "bench: results are in", out)
	}
	if err == nil && !r.anyCounts(s) {
		err = errors.New("no run counts: the results say why each did not")
	}
	return err
}

// show writes tables and charts, and prints the tables.
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

// complete says that nothing is left of what the settings ask for.
func (r *results) complete(s *settings) bool {
	for _, sc := range scenarios {
		for _, x := range servers {
			if s.scenarios.has(sc.name) && s.servers.has(x.name) && r.Setting.Absent[x.name] == "" && r.done(sc.name, x.name) < s.rounds {
				return false
			}
		}
	}
	return true
}

// anyCounts reports whether there is a run of what the settings ask for whose figures count.
func (r *results) anyCounts(s *settings) bool {
	for _, sc := range scenarios {
		for _, x := range servers {
			if s.scenarios.has(sc.name) && s.servers.has(x.name) && len(r.counted(sc.name, x.name)) > 0 {
				return true
			}
		}
	}
	return false
}

// runAll builds and runs. The results are nil if nothing could be run.
func runAll(ctx context.Context, s *settings, root, out string, stderr io.Writer) (*results, error) {
	two, err := twoCores()
	if err != nil {
		return nil, err
	}
	if err := raiseDescriptorLimit(); err != nil {
		return nil, err
	}
	b := &bench{
		workshop: workshop{root: root, ours: filepath.Join(root, "bin"), bin: filepath.Join(root, "bin", "bench")},
		cores:    two, duration: s.duration, rounds: s.rounds, quiet: s.quiet, out: out, log: stderr,
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
	if s.again {
		switch before, err := readResults(out); {
		case errors.Is(err, os.ErrNotExist): // it begins here
		case err != nil:
			return nil, err
		default:
			if err := before.Setting.continues(setting); err != nil {
				return nil, err
			}
			r = before
		}
	}
	r.Setting = r.Setting.joined(setting)
	return r, b.run(ctx, r)
}

// build makes the generator and all servers that shall run, and tells what they are.
func (b *bench) build(ctx context.Context) (setting, error) {
	where, err := thisMachine()
	if err != nil {
		return setting{}, err
	}
	head, err := commit(b.workshop.root)
	if err != nil {
		return setting{}, err
	}
	set := setting{Commit: head, Machine: where, Duration: b.duration.String(), Versions: map[string]string{}, Absent: map[string]string{}}
	if err := os.MkdirAll(b.workshop.bin, 0o755); err != nil {
		return setting{}, err
	}
	if err := servers[0].build(ctx, b.workshop); err != nil { // wsecho's make builds wsload too
		return setting{}, err
	}
	for _, s := range b.servers {
		if s.class == classOurs {
			continue
		}
		fmt.Fprintln(b.log, "build ", s.name)
		err := s.build(ctx, b.workshop)
		switch {
		case errors.Is(err, errAbsent):
			set.Absent[s.name] = err.Error()
			fmt.Fprintf(b.log, "%s is left out: %v\n", s.name, err)
			continue
		case err != nil:
			return setting{}, err
		}
		if set.Versions[s.name], err = s.version(b.workshop); err != nil {
			return setting{}, err
		}
	}
	return set, nil
}

// joined is the setting with what a later one knows more: other servers may have run then.
func (s setting) joined(later setting) setting {
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
