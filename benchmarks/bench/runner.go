package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/format"
	"wsecho/internal/limits"
)

// cores holds the CPU numbers that the servers and the load generator are pinned to. They have one
// core each, so that neither takes CPU time from the other.
type cores struct{ server, load int }

// twoCores returns the first two cores that this process may use.
func twoCores() (cores, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return cores{}, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var found []int
	for n := range 1024 {
		if allowed.IsSet(n) {
			found = append(found, n)
		}
	}
	if len(found) < 2 {
		return cores{}, fmt.Errorf("this process may use %d core: the server and the load generator need one each", len(found))
	}
	return cores{found[0], found[1]}, nil
}

// startOn starts a command pinned to one core. A child process inherits the CPU affinity of the
// thread that starts it, and a Go program derives GOMAXPROCS from that.
func startOn(core int, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	err := cmd.Start()
	if restore := unix.SchedSetaffinity(0, &before); restore != nil && err == nil {
		cmd.Process.Kill()
		cmd.Wait()
		return fmt.Errorf("sched_setaffinity: %w", restore)
	}
	return err
}

// bench runs the servers under the scenarios' loads, round by round.
type bench struct {
	dirs      buildDirs
	cores     cores
	duration  time.Duration
	rounds    int     // in all, with those already recorded
	quiet     float64 // -quiet: the maximum disturbance of a run, in CPUs
	scenarios []scenario
	servers   []server
	out       string
	end       time.Time // no run starts after this; zero: no limit
	log       io.Writer
}

// errTimeLimit is returned when the time limit has passed before all runs were made.
var errTimeLimit = errors.New("the time limit (-for) has passed")

// run makes the runs that r does not have yet, and writes r after every group of runs.
func (b *bench) run(ctx context.Context, r *results) error {
	for round := 1; round <= b.rounds; round++ {
		for _, sc := range b.scenarios {
			var missing []server
			for _, s := range shuffled(b.servers, round, sc.name) {
				if r.Setting.Absent[s.name] == "" && r.roundsDone(sc.name, s.name) < round {
					missing = append(missing, s)
				}
			}
			for group := range sc.groups(missing) {
				if !b.end.IsZero() && time.Now().After(b.end) {
					return errTimeLimit
				}
				runs, discarded, err := b.measureUndisturbed(ctx, round, sc, group)
				if err != nil {
					return err // interrupted, or /proc/stat could not be read
				}
				r.Runs, r.Discarded = append(r.Runs, runs...), append(r.Discarded, discarded...)
				if err := r.write(b.out); err != nil {
					return err
				}
				for _, x := range runs {
					fmt.Fprintln(b.log, progress(x, sc))
				}
			}
		}
	}
	return nil
}

// maxTries is the maximum number of times that a disturbed group of runs is made.
const maxTries = 3

// measureUndisturbed measures a group of servers, and repeats the runs while the disturbance
// exceeds -quiet, up to maxTries times. It keeps the first runs within -quiet, or else the least
// disturbed ones; it never looks at the measured figures. Runs with a failure are kept and not
// repeated.
func (b *bench) measureUndisturbed(ctx context.Context, round int, sc scenario, group []server) (best, discarded []run, err error) {
	for try := range maxTries {
		runs, err := b.measure(ctx, sc, group)
		if err != nil {
			return nil, nil, err
		}
		failed := false
		for i := range runs {
			runs[i].Round = round
			failed = failed || runs[i].Failed != ""
		}
		switch {
		case try == 0:
			best = runs
		case failed:
			return runs, append(discarded, best...), nil
		case runs[0].disturbance() < best[0].disturbance():
			best, discarded = runs, append(discarded, best...)
		default:
			discarded = append(discarded, runs...)
		}
		if failed || best[0].disturbance() <= b.quiet {
			break
		}
		fmt.Fprintf(b.log, "         %-9s  disturbed: other processes and the hypervisor used %.2f CPUs\n", sc.name, runs[0].disturbance())
	}
	return best, discarded, nil
}

// shuffled returns the servers in the order of a round. The order differs between rounds, and is
// the same when a round is continued with -append.
func shuffled(servers []server, round int, scenario string) []server {
	h := fnv.New64a()
	h.Write([]byte(scenario))
	order := append([]server(nil), servers...)
	rand.New(rand.NewPCG(uint64(round), h.Sum64())).Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] })
	return order
}

func progress(x run, sc scenario) string {
	head := fmt.Sprintf("round %d  %-9s  %-13s ", x.Round, x.Scenario, x.Server)
	if x.Failed != "" {
		return head + "failed: " + oneLine(x.Failed)
	}
	l := x.Load
	if sc.kind == kindIdle {
		return head + fmt.Sprintf("%10s per connection, %s in total", format.Bytes(l.Server.RSSPerConnection), format.Bytes(float64(l.Server.RSS)))
	}
	return head + fmt.Sprintf("%10s /s  %8s µs CPU  p99 %-8s  cores used: server %.2f, generator %.2f (%s µs)", number(l.Rate), number(l.Server.cpu()),
		timeText(l.Latency.P99), l.Server.CPUs, l.Generator.CPUs, number(l.Generator.cpu()))
}

// measure makes one run of each server of the group. Each has a new process and a wsload of its
// own; the servers take turns. A run's Failed holds the failure of a single server; an error ends
// all runs.
func (b *bench) measure(ctx context.Context, sc scenario, group []server) ([]run, error) {
	runs := make([]run, len(group))
	runOf := map[*running]*run{}
	var pairs []*pair
	defer func() {
		for p := range runOf {
			p.stop()
		}
	}()
	before, err := allCPUs()
	if err != nil {
		return nil, err
	}
	for i, s := range group {
		runs[i] = run{Scenario: sc.name, Server: s.name, Began: time.Now().UTC().Truncate(time.Second)}
		p, err := start(ctx, b.dirs, s, b.cores.server)
		if err == nil {
			runOf[p] = &runs[i]
			var x *pair
			if x, err = b.beginLoad(ctx, sc, p); err == nil {
				pairs = append(pairs, x)
				if len(group) > 1 {
					x.clock.pause(p.cmd.Process, x.load.Process)
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			for _, x := range pairs {
				x.end()
			}
			return nil, ctx.Err()
		case err != nil:
			runs[i].Failed = err.Error()
		}
	}
	var used time.Duration // CPU time of the servers and generators
	err = takeTurns(ctx, pairs, sc.turn(), b.duration+warmup+connectTime, func(x *pair, r *report, err error) {
		mine := runOf[x.server]
		if mine.Load = r; err != nil {
			mine.Failed = err.Error()
		} else {
			mine.Failed = r.failure(sc)
		}
		if exit := x.server.exitText(); exit != "" {
			mine.Failed = strings.TrimPrefix(mine.Failed+"; the server "+exit, "; ")
		}
		x.server.stop()
		used += x.server.generator + x.server.cmd.ProcessState.UserTime() + x.server.cmd.ProcessState.SystemTime()
	})
	if err != nil {
		return nil, err
	}
	after, err := allCPUs()
	if err != nil {
		return nil, err
	}
	for i := range runs {
		runs[i].Stolen = after.averageCPUs(before, after.stolen-before.stolen)
		runs[i].Others = max(0, after.averageCPUs(before, after.used-before.used-used))
	}
	return runs, nil
}

// connectTime is the time allowed for opening and closing the connections, in addition to the
// warm-up and the measured time. Most servers need one or two seconds.
const connectTime = 20 * time.Second

// beginLoad starts the load on a server. In the idle scenario it first runs a short load on 100
// connections, and waits for its end.
func (b *bench) beginLoad(ctx context.Context, sc scenario, p *running) (*pair, error) {
	if sc.kind == kindIdle {
		// Memory that a server allocates once, at its first connections, must not count as memory
		// per connection.
		x, err := b.startLoad(p, "-json", "-connections", "100", "-duration", "200ms", "-warmup", "0s", "-workers", "1")
		if err != nil {
			return nil, err
		}
		var failed error
		err = takeTurns(ctx, []*pair{x}, sc.turn(), connectTime, func(_ *pair, _ *report, err error) { failed = err })
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
	}
	return b.startLoad(p, sc.load(b.duration)...)
}

// running is a server's process.
type running struct {
	cmd    *exec.Cmd
	addr   string
	output tail
	exited chan struct{} // closed when the process has exited

	generator time.Duration // CPU time of its wsload processes
}

// start starts a server on one core, and returns when it accepts connections.
func start(ctx context.Context, dirs buildDirs, s server, core int) (*running, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args := s.command(dirs, addr)
	p := &running{cmd: exec.Command(args[0], args[1:]...), addr: addr, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // if bench is killed, the server is killed too
	if err := startOn(core, p.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	go func() {
		p.cmd.Wait() // the result is in ProcessState
		close(p.exited)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			return p, c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-p.exited:
			return nil, fmt.Errorf("the server %s", p.exitText())
		}
		if time.Now().After(end) {
			p.stop()
			return nil, fmt.Errorf("the server did not accept a connection within 10 s: %s", p.output.String())
		}
	}
}

// freeAddress returns an address with an unused port. Each run has its own port, so that no run is
// affected by an earlier run's connections in TIME_WAIT.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop sends SIGTERM, and SIGKILL if the process has not exited after 5 s.
func (p *running) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// exitText returns how the process ended, with the end of its output; "" while it is running.
func (p *running) exitText() string {
	select {
	case <-p.exited:
		return fmt.Sprintf("exited: %v: %s", p.cmd.ProcessState, oneLine(p.output.String()))
	default:
		return ""
	}
}

// tail keeps the last maxTail bytes of a process's output.
type tail struct{ text []byte }

const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if len(t.text) > maxTail {
		t.text = append(t.text[:0], t.text[len(t.text)-maxTail:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }

// raiseDescriptorLimit raises the soft limit of descriptors to the hard limit. The servers inherit
// it; not all of them raise it themselves.
func raiseDescriptorLimit() error {
	limit, err := limits.RaiseFiles()
	if err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	if wanted, _ := strconv.Atoi(idleConnections); limit < wanted+500 {
		fmt.Fprintf(os.Stderr, "bench: the descriptor limit %d (ulimit -Hn) is too low for the idle scenario, which opens %s connections\n", limit, idleConnections)
	}
	return nil
}
