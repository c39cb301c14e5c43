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
)

// cores are where servers and generator run: one each, so that neither takes the other's time.
type cores struct{ server, load int }

// twoCores are the first two that this process may use.
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
		return cores{}, fmt.Errorf("%d core may be used: the server needs one and the generator another", len(found))
	}
	return cores{found[0], found[1]}, nil
}

// startOn starts a command on one core. A child has the CPUs of the thread that made it, and a Go
// program then takes GOMAXPROCS from that.
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

// bench runs servers under loads, round after round.
type bench struct {
	workshop  workshop
	cores     cores
	duration  time.Duration
	rounds    int     // that there shall be in the end
	quiet     float64 // the most CPUs that others may take during a run
	scenarios []scenario
	servers   []server
	out       string
	end       time.Time // no run begins later; zero: never
	log       io.Writer
}

// errTimeIsUp says that runs are left for another time.
var errTimeIsUp = errors.New("-for is over")

// run adds to the results what is missing, and writes them after every group of runs.
func (b *bench) run(ctx context.Context, r *results) error {
	for round := 1; round <= b.rounds; round++ {
		for _, sc := range b.scenarios {
			var missing []server
			for _, s := range shuffled(b.servers, round, sc.name) {
				if r.Setting.Absent[s.name] == "" && r.done(sc.name, s.name) < round {
					missing = append(missing, s)
				}
			}
			for group := range sc.groups(missing) {
				if !b.end.IsZero() && time.Now().After(b.end) {
					return errTimeIsUp
				}
				runs, discarded, err := b.measureInQuiet(ctx, round, sc, group)
				if err != nil {
					return err // interrupted, or nothing could be started
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

// mostTries is how often a group of runs is made at most, until it is undisturbed.
const mostTries = 3

// measureInQuiet repeats runs during which others took too much of the CPUs. It never looks at the figures:
// those count that were the first not to be disturbed, or were disturbed least. But a failure always counts.
func (b *bench) measureInQuiet(ctx context.Context, round int, sc scenario, group []server) (best, discarded []run, err error) {
	for try := range mostTries {
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
		fmt.Fprintf(b.log, "         %-9s  others took %.2f of a core\n", sc.name, runs[0].disturbance())
	}
	return best, discarded, nil
}

// shuffled gives a round's order: another one each time, and the same when a round is taken up again.
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
		return head + fmt.Sprintf("%10s a connection, %s in all", bytesText(l.Server.RSSPerConnection), bytesText(float64(l.Server.RSS)))
	}
	return head + fmt.Sprintf("%10s /s  %8s µs  p99 %-8s  busy %.2f, generator %.2f (%s µs)", number(l.Rate), number(l.Server.cpu()),
		timeText(l.Latency.P99), l.Server.CPUs, l.Generator.CPUs, number(l.Generator.cpu()))
}

// measure is one run of each server: fresh servers, and a wsload for each, by turns. What goes wrong with one is told by its run; an error
// ends all of them.
func (b *bench) measure(ctx context.Context, sc scenario, group []server) ([]run, error) {
	runs := make([]run, len(group))
	of := map[*running]*run{}
	var pairs []*pair
	defer func() {
		for p := range of {
			p.stop()
		}
	}()
	before, err := allCPUs()
	if err != nil {
		return nil, err
	}
	for i, s := range group {
		runs[i] = run{Scenario: sc.name, Server: s.name, Began: time.Now().UTC().Truncate(time.Second)}
		p, err := start(ctx, b.workshop, s, b.cores.server)
		if err == nil {
			of[p] = &runs[i]
			var x *pair
			if x, err = b.begin(ctx, sc, p); err == nil {
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
	var used time.Duration // by servers and generators
	err = takeTurns(ctx, pairs, sc.turn(), b.duration+warmup+patience, func(x *pair, r *report, err error) {
		mine := of[x.server]
		if mine.Load = r; err != nil {
			mine.Failed = err.Error()
		} else {
			mine.Failed = r.verdict(sc)
		}
		if gone := x.server.gone(); gone != "" {
			mine.Failed = strings.TrimPrefix(mine.Failed+"; the server "+gone, "; ")
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
		runs[i].Stolen = after.since(before, after.stolen-before.stolen)
		runs[i].Others = max(0, after.since(before, after.used-before.used-used))
	}
	return runs, nil
}

// patience is for opening and closing the connections, beyond the time that is measured. Most servers need a second or two.
const patience = 20 * time.Second

// begin starts the load on a server.
func (b *bench) begin(ctx context.Context, sc scenario, p *running) (*pair, error) {
	if sc.kind == kindIdle {
		// What a server takes when its first connections come is not memory of connections.
		x, err := b.startLoad(p, "-json", "-connections", "100", "-duration", "200ms", "-warmup", "0s", "-workers", "1")
		if err != nil {
			return nil, err
		}
		var failed error
		err = takeTurns(ctx, []*pair{x}, sc.turn(), patience, func(_ *pair, _ *report, err error) { failed = err })
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
	exited chan struct{} // closed when it has gone

	generator time.Duration // what wsload has used of a CPU
}

// start starts a server on one core, and returns when it accepts connections.
func start(ctx context.Context, w workshop, s server, core int) (*running, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args := s.command(w, addr)
	p := &running{cmd: exec.Command(args[0], args[1:]...), addr: addr, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should we be killed: no server is left behind
	if err := startOn(core, p.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	go func() {
		p.cmd.Wait() // the answer is in ProcessState
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
			return nil, fmt.Errorf("the server %s", p.gone())
		}
		if time.Now().After(end) {
			p.stop()
			return nil, fmt.Errorf("the server did not listen within 10 s: %s", p.output.String())
		}
	}
}

// freeAddress is one where nothing listens. Each run has another, so that none meets what another
// has left in TIME_WAIT.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop ends the process.
func (p *running) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// gone tells how the process has ended; "" if it has not.
func (p *running) gone() string {
	select {
	case <-p.exited:
		return fmt.Sprintf("has ended: %v: %s", p.cmd.ProcessState, oneLine(p.output.String()))
	default:
		return ""
	}
}

// tail keeps the last that a process has written.
type tail struct{ text []byte }

const mostTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if len(t.text) > mostTail {
		t.text = append(t.text[:0], t.text[len(t.text)-mostTail:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }

// raiseDescriptorLimit lets the servers have as many connections as the machine allows: the node and C ones
// do not all raise their own limit.
func raiseDescriptorLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	limit.Cur = limit.Max
	// By package syscall, so that its own Exec does not put the old limit back.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Cur, Max: limit.Max}); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	if wanted, _ := strconv.Atoi(idleConnections); limit.Max < uint64(wanted)+500 {
		fmt.Fprintf(os.Stderr, "bench: the descriptor limit %d (ulimit -Hn) is too low for the scenario idle, which opens %s connections\n", limit.Max, idleConnections)
	}
	return nil
}
