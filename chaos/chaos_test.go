// Package chaos attacks the real server and measures whether other connections are affected.
// Probes, which are well-behaved connections, exchange verified messages all the time, while a
// swarm of thousands of scripted peers injects one kind of fault after another. The server survives
// a fault if no probe lost a byte, was closed, or waited much longer than without the fault, if
// every peer of the swarm received exactly what its script expects, and if the server's resident
// memory stayed within its limit.
//
// The short form runs with all other tests, the long form with make chaos. docs/chaos.md has the
// results of the long form.
package chaos

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "`seed` of all random numbers; 0: a new one")
	long       = flag.Bool("long", false, "run the long form, which takes up to ten minutes")
	reportFile = flag.String("report", "", "`file` to write the report to, between its markers")
)

const (
	waitTimeout = 30 * time.Second // after which a condition that has not come true is a failure

	drainTimeout = 10 * time.Second // the server's default -drain-timeout

	shortFormLimit = 30 * time.Second // after which the short form starts no further server
)

var scratch string // temporary directory, removed when the tests end

func TestMain(m *testing.M) {
	if probeConfig, ok := os.LookupEnv(probeConfigVariable); ok {
		if err := runProbes(probeConfig); err != nil {
			fmt.Fprintln(os.Stderr, "probes:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "wsecho-chaos-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(scratch)
	os.Exit(status)
}

// A scale holds the sizes and durations of one form of the suite.
type scale struct {
	name       string
	many       int           // peers of a fault that costs the machine little
	some       int           // peers of a fault that fills their socket buffers
	few        int           // peers of a fault that keeps a CPU busy
	interval   time.Duration // pause between two bytes of a slow peer
	baseline   time.Duration // of the measurement without faults
	duration   time.Duration // of a fault that does not end by itself
	stopTime   time.Duration // between SIGSTOP and SIGCONT
	bigMessage int           // length of a big message in bytes
	mixture    time.Duration // duration of the mixture

	handshakeTimeout, writeTimeout time.Duration
}

var (
	longScale = scale{
		name: "long", many: 10_000, some: 5_000, few: 100, interval: time.Second, baseline: 10 * time.Second, duration: 5 * time.Second,
		stopTime: 10 * time.Second, bigMessage: 64 << 20, mixture: 45 * time.Second, handshakeTimeout: 10 * time.Second, writeTimeout: 5 * time.Second,
	}
	shortScale = scale{
		name: "short", many: 1_000, some: 300, few: 10, interval: 50 * time.Millisecond, baseline: 500 * time.Millisecond, duration: 300 * time.Millisecond,
		stopTime: 2 * time.Second, bigMessage: 16 << 20, mixture: time.Second, handshakeTimeout: 3 * time.Second, writeTimeout: time.Second,
	}
	tinyScale = scale{
		name: "tiny", many: 200, some: 60, few: 4, interval: 20 * time.Millisecond, baseline: 400 * time.Millisecond, duration: 100 * time.Millisecond,
		stopTime: 500 * time.Millisecond, bigMessage: 2 << 20, mixture: 500 * time.Millisecond, handshakeTimeout: time.Second, writeTimeout: 500 * time.Millisecond,
	}
	raceScale = scale{
		name: "race", many: 100, some: 30, few: 2, interval: 20 * time.Millisecond, baseline: 200 * time.Millisecond, duration: 100 * time.Millisecond,
		stopTime: 500 * time.Millisecond, bigMessage: 1 << 20, mixture: 500 * time.Millisecond, handshakeTimeout: 3 * time.Second, writeTimeout: 2 * time.Second,
	}
)

func currentScale() scale {
	s := shortScale
	switch {
	case *long:
		s = longScale
	case underRace:
		s = raceScale
	case testing.Short():
		s = tinyScale
	}
	return s.fit()
}

// fit returns the scale reduced to the machine's limits: the descriptors for both ends of each
// connection, and half of the memory that TCP may use before it is under pressure (tcp_mem,
// tcp(7)).
func (s scale) fit() scale {
	const each = 128 << 10 // bytes that both ends of a connection with full buffers use
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		s.many = min(s.many, int(limit.Cur)/2)
	}
	var low, pressure, high int
	if text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem"); err == nil {
		if _, err := fmt.Sscan(string(text), &low, &pressure, &high); err == nil {
			s.some = min(s.some, pressure*os.Getpagesize()/2/each)
		}
	}
	return s
}

// A fault is one kind of attack on a server.
type fault struct {
	name string
	do   func(*scenario)
}

// costly reports whether a fault takes too long under the race detector.
func (f fault) costly() bool { return strings.HasSuffix(f.name, "budget exhausted") }

// TestChaos runs every fault against a server with the flags of each plan.
func TestChaos(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	scale := currentScale()
	t.Logf("%s form; to repeat it: -seed %d", scale.name, seed)
	r := newReport(scale, seed)

	for _, plan := range []plan{
		{
			name:  "reading peers", // peers read to the end, so the byte totals must be exact
			flags: []string{"-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", "5m"},
			exact: true,
			faults: []fault{
				{"handshakes at one byte per second", slowHandshakes},
				{"half frames", halfFrames},
				{"frames sent byte by byte", bytewiseFrames},
				{"zero windows, then opened", zeroWindows},
				{"readers at one byte per second", slowReaders},
				{"half-close after whole messages", halfCloses},
				{"floods beside pings", floods},
				{"big messages beside small ones", bigMessages},
				{"server stopped, then continued", stopped},
			},
		},
		{
			name:  "aborting peers",
			flags: []string{"-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", scale.writeTimeout.String()},
			faults: []fault{
				{"resets and FINs at every stage", endings},
				{"peers that never read", neverReading},
				{"accept storm", acceptStorm},
				{"connections closed in the backlog", closedInBacklog},
				{"a mixture", mixture},
			},
		},
		{
			name:        "few descriptors",
			descriptors: 256,
			flags:       []string{"-handshake-timeout", scale.handshakeTimeout.String()},
			faults: []fault{
				{"more connections than -max-conns", beyondMaxConns},
				{"no descriptors left", beyondDescriptors},
				{"accept storm", acceptStorm},
			},
		},
		{
			name:   "small budget",
			flags:  []string{"-buffer-budget", "1MiB", "-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", "5m"},
			budget: 1 << 20,
			exact:  true,
			faults: []fault{
				{"handshakes at one byte per second", slowHandshakes},
				{"half frames", halfFrames},
				{"frames sent byte by byte", bytewiseFrames},
				{"zero windows, then opened", zeroWindows},
				{"half-close after whole messages", halfCloses},
				{"floods beside pings", floods},
				{"big messages beside small ones", bigMessages},
				{"unfinished pings, budget exhausted", unfinishedPings},
				{"many half pings, budget exhausted", manyHalfPings},
				{"unread halves, budget exhausted", unreadHalves},
			},
		},
		{
			name:   "small budget, aborting peers",
			flags:  []string{"-buffer-budget", "1MiB", "-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", scale.writeTimeout.String()},
			budget: 1 << 20,
			faults: []fault{
				{"resets and FINs at every stage", endings},
				{"peers that never read", neverReading},
				{"a mixture", mixture},
			},
		},
	} {
		if underRace && plan.name == "reading peers" {
			continue // the plan with a small budget has the same faults, and exercises more code
		}
		t.Run(plan.name, func(t *testing.T) {
			if !*long && time.Since(r.began) > shortFormLimit {
				t.Skipf("the short form has run for more than %v on this slow machine", shortFormLimit)
			}
			runPlan(t, &plan, scale, rng(seed).fork(plan.name), r)
		})
	}
	t.Logf("\n%v", r)
	if *reportFile != "" {
		if err := r.write(*reportFile); err != nil {
			t.Error(err)
		}
	}
}

// plan is the list of faults for one server, and the server's flags.
type plan struct {
	name        string
	flags       []string
	descriptors int  // the server's limit of open descriptors; 0: the machine's
	budget      int  // -buffer-budget in bytes; 0: the default
	exact       bool // every peer reads to the end, so the server's totals must match exactly
	faults      []fault
}

// A scenario is one server with its probes and a swarm, while the faults of a plan run.
type scenario struct {
	*plan
	t     *testing.T
	scale scale
	rng   rng

	server          *server
	probes          *probes
	swarm           *swarm
	baseline        *probeStats // the probes' measurements without faults
	idleDescriptors int         // descriptors that the server held then
	section         *section    // this server's section of the report

	ran           time.Duration // the server's CPU time when the fault began
	waited        time.Duration // time that its threads had waited for a CPU by then
	stoppedFor    time.Duration // time for which the test had stopped the server during the fault
	probeMessages int           // messages that probes have got back
}

const probeCount = 12

// A probe may wait for an echo at most p99Factor times the p99 that was measured without faults,
// and at least minLimit. That limit is for a machine with no other load; two corrections account
// for load:
//   - the limit is multiplied by how much longer the server's threads took because they had to wait
//     for a CPU, according to the kernel's scheduler statistics;
//   - twice the longest delay with which a probe woke from a pause is added, since an echo needs
//     two wake-ups: the server's and the probe's.
const (
	p99Factor = 10
	minLimit  = 250 * time.Millisecond
)

func (s *scenario) baselineLimit() time.Duration { return max(minLimit, p99Factor*s.baseline.P99) }

// limit returns the longest wait that is allowed in a row of the report.
func (s *scenario) limit(r *row) time.Duration {
	return time.Duration(r.slowdown*float64(s.baselineLimit())) + 2*r.stats.Late + s.stoppedFor
}

func runPlan(t *testing.T, p *plan, scale scale, rnd rng, r *report) {
	s := &scenario{plan: p, t: t, scale: scale, rng: rnd}
	s.server = start(t, p.descriptors, p.flags...)
	s.probes = s.server.probes(uint64(rnd), probeCount)
	s.swarm = newSwarm(t, s.server.addr)
	s.probeMessages += s.probes.takeStats().Messages // returns once all are connected
	time.Sleep(scale.baseline)
	s.baseline, s.idleDescriptors = s.probes.takeStats(), s.server.descriptors(math.MaxInt)
	s.probeMessages += s.baseline.Messages
	s.section = r.section(&section{plan: p, baseline: s.baseline, limit: s.baselineLimit(), memoryLimit: s.residentLimit()})
	for _, f := range p.faults {
		if underRace && f.costly() {
			continue
		}
		if !s.runFault(f) {
			return
		}
	}
	s.runShutdown()
}

// runFault runs a fault against the server and checks its effect on the probes. It reports whether
// the server survived it.
func (s *scenario) runFault(f fault) (survived bool) {
	return s.t.Run(f.name, func(t *testing.T) {
		defer s.useT(t)()
		row := s.startRow(f.name)
		f.do(s)
		s.measure(row)
		s.checkRow(row, s.probes.takeStats(), probeCount)
	})
}

// runShutdown sends SIGTERM to the server under full load, and checks its totals.
func (s *scenario) runShutdown() {
	s.t.Run("SIGTERM under full load", func(t *testing.T) {
		defer s.useT(t)()
		row := s.startRow("SIGTERM under full load")
		stats := s.terminate(row)
		s.section.totals = s.server.stop()
		s.checkRow(row, stats, 0)
		s.checkTotals(s.section.totals, stats)
	})
}

// startRow adds a row to the report and saves the counters at the start of the fault. The row's
// peers and bytes are the negated counters until checkRow adds the final ones.
func (s *scenario) startRow(fault string) *row {
	s.probeMessages += s.probes.takeStats().Messages
	s.server.forgetPeak()
	s.ran, s.waited = s.server.scheduled()
	s.stoppedFor = 0
	s.section.rows = append(s.section.rows, row{fault: fault, peers: -s.swarm.sources, bytes: -s.swarm.payload, lost: "?"})
	return &s.section.rows[len(s.section.rows)-1]
}

// useT makes t the test that reports failures, until the returned function is called.
func (s *scenario) useT(t *testing.T) func() {
	outer := s.t
	set := func(t *testing.T) { s.t, s.server.t, s.probes.t, s.swarm.t = t, t, t, t }
	set(t)
	return func() { set(outer) }
}

// measure adds the memory and the slowdown of the server's process to a row.
func (s *scenario) measure(r *row) {
	r.peak = s.server.peak()
	ran, waited := s.server.scheduled()
	r.slowdown = 1
	if ran -= s.ran; ran > 0 {
		r.slowdown += max(0, float64(waited-s.waited)/float64(ran))
	}
}

// checkRow completes a row, and fails the test if a probe was affected or memory exceeded its
// limit.
func (s *scenario) checkRow(r *row, stats *probeStats, open int) {
	s.t.Helper()
	s.probeMessages += stats.Messages
	r.stats = stats
	r.peers += s.swarm.sources
	r.bytes += s.swarm.payload + stats.Payload
	for _, failure := range stats.Failures {
		s.t.Errorf("probe: %s", failure)
	}
	if stats.Open != open {
		s.t.Errorf("got %d open probes, want %d", stats.Open, open)
	}
	if most := s.limit(r); stats.Max > most && !underRace {
		s.t.Errorf("a probe waited %v, want at most %v: p99 without faults %v, server slowdown %.2f×, probes woke %v late, server stopped for %v",
			stats.Max, most, s.baseline.P99, r.slowdown, stats.Late, s.stoppedFor)
	}
	if r.peak > s.section.memoryLimit && !underRace {
		s.t.Errorf("the server's resident memory was %s, want at most %s", mib(r.peak), mib(s.section.memoryLimit))
	}
	r.lost = "0"
	if s.t.Failed() {
		r.lost = "FAILED"
	}
}

// residentLimit returns the limit of the server's resident memory in bytes: the README's formula
// for 20,000 descriptors, without the memory for scrapes, of which the suite makes none.
func (s *scenario) residentLimit() int {
	server := limits.Server{Workers: s.server.workers, BufferSize: pool.BufferSize, BufferBudget: cmp.Or(s.budget, 256<<20)}
	return limits.StartMemory + int(server.Growth()) + 20_000*(limits.SlotMemory+server.Workers/4)
}

// checkTotals compares the server's totals with what the swarm and the probes counted.
func (s *scenario) checkTotals(sum *totals, stats *probeStats) {
	s.t.Helper()
	ended := 0
	for _, n := range sum.Ended {
		ended += n
	}
	if atOnce := sum.Refused["at_once"]; sum.Accepted != ended+atOnce {
		s.t.Errorf("the server accepted %d connections, but %d ended and %d were refused at once", sum.Accepted, ended, atOnce)
	}
	if n := s.swarm.sources + probeCount; sum.Accepted > n {
		s.t.Errorf("the server accepted %d connections, want at most the %d that were opened", sum.Accepted, n)
	}
	if n := sum.Ended["internal failure"] + sum.Ended["out of memory"]; n > 0 {
		s.t.Errorf("the server ended %d connections because of its own failures: %v", n, sum.Ended)
	}
	messages, bytes := s.swarm.messages+s.probeMessages, s.swarm.received+stats.Received
	if sum.Messages < messages || sum.BytesOut < bytes {
		s.t.Errorf("the server counted %d messages and %d bytes sent, want at least the %d and %d that peers received",
			sum.Messages, sum.BytesOut, messages, bytes)
	}
	if s.exact && (sum.Messages != messages || sum.BytesOut != bytes) {
		s.t.Errorf("the server counted %d messages and %d bytes sent, want exactly the %d and %d that peers received",
			sum.Messages, sum.BytesOut, messages, bytes)
	}
}

// Traffic that several faults share.
var (
	mixedSizes         = &traffic{maxSize: 4 << 10, fragmented: 20, pinged: 10}
	shortMessages      = &traffic{maxSize: 125}
	largeMessages      = &traffic{maxSize: 100 << 10, fixed: true}
	fragmentedMessages = &traffic{maxSize: 8 << 10, fixed: true, fragmented: 100}
	hugeMessages       = &traffic{maxSize: 1 << 20, fixed: true}
)
