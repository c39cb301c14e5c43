// Package chaos attacks the real server and looks whether anybody else
// notices. Witnesses, well-behaved connections, echo verified messages all the
// time; a herd of thousands of scripted peers does to the server one kind of
// fault after another; and a fault is survived if no witness has lost a byte, was closed, or has waited
// much longer than when it was undisturbed, if every peer of the herd got what it was
// owed, and if the server's memory stayed within its bound.
//
// It runs in a short form with all other tests, and in a long one with
// make chaos. docs/chaos.md is what that has found.
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
	seedFlag   = flag.Uint64("seed", 0, "`number` that everything random follows from; 0: a new one")
	long       = flag.Bool("long", false, "run the long form, of up to ten minutes")
	reportFile = flag.String("report", "", "`file` to write the report to, between its markers")
)

const (
	soon = 30 * time.Second // long enough for anything that is going to happen

	drainTimeout = 10 * time.Second // the server's default

	shortEnough = 30 * time.Second // after which the short form begins no other server
)

var scratch string // a directory that is removed at the end

func TestMain(m *testing.M) {
	if order, ok := os.LookupEnv(orderVariable); ok {
		if err := bearWitness(order); err != nil {
			fmt.Fprintln(os.Stderr, "witnesses:", err)
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

// A scale is how large everything is.
type scale struct {
	name   string
	many   int // peers that cost the machine little
	some   int // peers that fill their buffers
	few    int // peers that keep a processor busy
	second time.Duration
	calm   time.Duration // for which the witnesses are undisturbed
	spell  time.Duration // for which a fault lasts that has no end of its own
	stop   time.Duration // for which the server is stopped
	big    int           // bytes of a big message
	wild   time.Duration // for which the mixture lasts

	handshakeTimeout, writeTimeout time.Duration
}

var (
	longScale = scale{
		name: "long", many: 10_000, some: 5_000, few: 100, second: time.Second, calm: 10 * time.Second, spell: 5 * time.Second,
		stop: 10 * time.Second, big: 64 << 20, wild: 45 * time.Second, handshakeTimeout: 10 * time.Second, writeTimeout: 5 * time.Second,
	}
	shortScale = scale{
		name: "short", many: 1_000, some: 300, few: 10, second: 50 * time.Millisecond, calm: 500 * time.Millisecond, spell: 300 * time.Millisecond,
		stop: 2 * time.Second, big: 16 << 20, wild: time.Second, handshakeTimeout: 3 * time.Second, writeTimeout: time.Second,
	}
	tinyScale = scale{
		name: "tiny", many: 200, some: 60, few: 4, second: 20 * time.Millisecond, calm: 400 * time.Millisecond, spell: 100 * time.Millisecond,
		stop: 500 * time.Millisecond, big: 2 << 20, wild: 500 * time.Millisecond, handshakeTimeout: time.Second, writeTimeout: 500 * time.Millisecond,
	}
	raceScale = scale{
		name: "race", many: 100, some: 30, few: 2, second: 20 * time.Millisecond, calm: 200 * time.Millisecond, spell: 100 * time.Millisecond,
		stop: 500 * time.Millisecond, big: 1 << 20, wild: 500 * time.Millisecond, handshakeTimeout: 3 * time.Second, writeTimeout: 2 * time.Second,
	}
)

func theScale() scale {
	s := shortScale
	switch {
	case *long:
		s = longScale
	case underRace:
		s = raceScale
	case testing.Short():
		s = tinyScale
	}
	return s.fitting()
}

// fitting is the scale as far as the machine's limits allow: descriptors for
// both ends of many connections, and half of the memory that TCP has before it is under pressure.
func (s scale) fitting() scale {
	const each = 128 << 10 // what both ends of a connection with full buffers take
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

// A fault is something that is done to a server.
type fault struct {
	name string
	do   func(*scene)
}

// costly says that a fault takes the race detector too long.
func (f fault) costly() bool { return strings.HasSuffix(f.name, "the budget spent") }

// TestChaos is the list of all that is done to the server.
func TestChaos(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	scale := theScale()
	t.Logf("%s form; to repeat it: -seed %d", scale.name, seed)
	r := newReport(scale, seed)

	for _, plan := range []plan{
		{
			name:  "patient", // every peer hears the server out, so that its account of bytes must be right to the byte
			flags: []string{"-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", "5m"},
			exact: true,
			faults: []fault{
				{"handshakes of a byte a second", slowHandshakes},
				{"half frames", halfFrames},
				{"frames of a byte at a time", dribbledFrames},
				{"zero windows, then opened", zeroWindows},
				{"readers of a byte a second", sippingReaders},
				{"half-close after whole messages", halfCloses},
				{"floods beside pings", floods},
				{"big messages beside small ones", bigMessages},
				{"server stopped, then continued", stopped},
			},
		},
		{
			name:  "cruel",
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
			name:        "exhausted",
			descriptors: 256,
			flags:       []string{"-handshake-timeout", scale.handshakeTimeout.String()},
			faults: []fault{
				{"more connections than -max-conns", beyondMaxConns},
				{"no descriptors left", beyondDescriptors},
				{"accept storm", acceptStorm},
			},
		},
		{
			name:   "poor",
			flags:  []string{"-buffer-budget", "1MiB", "-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", "5m"},
			budget: 1 << 20,
			exact:  true,
			faults: []fault{
				{"handshakes of a byte a second", slowHandshakes},
				{"half frames", halfFrames},
				{"frames of a byte at a time", dribbledFrames},
				{"zero windows, then opened", zeroWindows},
				{"half-close after whole messages", halfCloses},
				{"floods beside pings", floods},
				{"big messages beside small ones", bigMessages},
				{"unfinished pings, the budget spent", unfinishedPings},
				{"half pings of many, the budget spent", manyHalfPings},
				{"unread halves, the budget spent", unreadHalves},
			},
		},
		{
			name:   "poor and cruel",
			flags:  []string{"-buffer-budget", "1MiB", "-handshake-timeout", scale.handshakeTimeout.String(), "-write-timeout", scale.writeTimeout.String()},
			budget: 1 << 20,
			faults: []fault{
				{"resets and FINs at every stage", endings},
				{"peers that never read", neverReading},
				{"a mixture", mixture},
			},
		},
	} {
		if underRace && plan.name == "patient" {
			continue // the poor server is given the same, and the race detector sees more there
		}
		t.Run(plan.name, func(t *testing.T) {
			if !*long && time.Since(r.began) > shortEnough {
				t.Skipf("the machine is slow today, and this is the short form")
			}
			play(t, &plan, scale, dice(seed).fork(plan.name), r)
		})
	}
	t.Logf("\n%v", r)
	if *reportFile != "" {
		if err := r.write(*reportFile); err != nil {
			t.Error(err)
		}
	}
}

// plan is what is done to one server.
type plan struct {
	name        string
	flags       []string
	descriptors int  // that the server may have; 0: all
	budget      int  // bytes; 0: the default
	exact       bool // no peer ends TCP before it has read all
	faults      []fault
}

// A scene is one server with its witnesses and a herd.
type scene struct {
	*plan
	t     *testing.T
	scale scale
	dice  dice

	server    *server
	witnesses *witnesses
	herd      *herd
	calm      *testimony // of the witnesses, undisturbed
	idle      int        // descriptors of the server then
	part      *part      // of the report

	ran    time.Duration // processor time of the server when a fault began
	waited time.Duration // and the time it had waited for that
	excuse time.Duration // for which the server could not but let everybody wait
	echoed int           // messages, by the witnesses' account
}

const witnessCount = 12

// How long a witness may wait: so many times what all but a hundredth of its
// messages took when it was undisturbed, and at least the floor. That is for a
// machine that has nothing else to do; what it was slowed by others is on top:
//   - that time is multiplied by how much longer the server's threads took for having
//     to wait for a processor, by the kernel's account;
//   - twice the most that a witness was woken too late from its rest is added, for an
//     echo needs the server and the witness woken.
const (
	patience = 10
	floor    = 250 * time.Millisecond
)

func (s *scene) mostWait() time.Duration { return max(floor, patience*s.calm.P99) }

// limit is how long a witness may have waited in a row of the report.
func (s *scene) limit(r *row) time.Duration {
	return time.Duration(r.slowed*float64(s.mostWait())) + 2*r.said.Late + s.excuse
}

func play(t *testing.T, p *plan, scale scale, d dice, r *report) {
	s := &scene{plan: p, t: t, scale: scale, dice: d}
	s.server = start(t, p.descriptors, p.flags...)
	s.witnesses = s.server.witnesses(uint64(d), witnessCount)
	s.herd = newHerd(t, s.server.addr)
	s.echoed += s.witnesses.testify().Messages // now all are connected
	time.Sleep(scale.calm)
	s.calm, s.idle = s.witnesses.testify(), s.server.descriptors(math.MaxInt)
	s.echoed += s.calm.Messages
	s.part = r.part(&part{plan: p, calm: s.calm, limit: s.mostWait(), bound: s.residentBound()})
	for _, f := range p.faults {
		if underRace && f.costly() {
			continue
		}
		if !s.suffers(f) {
			return
		}
	}
	s.ends()
}

// suffers does a fault to the server and looks what has become of the
// witnesses. It says whether there is a point in going on.
func (s *scene) suffers(f fault) (survived bool) {
	return s.t.Run(f.name, func(t *testing.T) {
		defer s.within(t)()
		row := s.begins(f.name)
		f.do(s)
		s.measures(row)
		s.judges(row, s.witnesses.testify(), witnessCount)
	})
}

// ends tells the server to end while everybody talks to it, and goes through
// its accounts.
func (s *scene) ends() {
	s.t.Run("SIGTERM under full load", func(t *testing.T) {
		defer s.within(t)()
		row := s.begins("SIGTERM under full load")
		said := s.terminate(row)
		s.part.totals = s.server.stop()
		s.judges(row, said, 0)
		s.audits(s.part.totals, said)
	})
}

// begins begins a row of the report. Until judges completes it, its numbers are
// what is to be subtracted.
func (s *scene) begins(fault string) *row {
	s.echoed += s.witnesses.testify().Messages
	s.server.forgetPeak()
	s.ran, s.waited = s.server.scheduled()
	s.excuse = 0
	s.part.rows = append(s.part.rows, row{fault: fault, peers: -s.herd.sources, bytes: -s.herd.payload, lost: "?"})
	return &s.part.rows[len(s.part.rows)-1]
}

// within makes t the test that failures are of, until the function is called that it returns.
func (s *scene) within(t *testing.T) func() {
	outer := s.t
	set := func(t *testing.T) { s.t, s.server.t, s.witnesses.t, s.herd.t = t, t, t, t }
	set(t)
	return func() { set(outer) }
}

// measures completes a row with what can be seen of the server's process.
func (s *scene) measures(r *row) {
	r.peak = s.server.peak()
	ran, waited := s.server.scheduled()
	r.slowed = 1
	if ran -= s.ran; ran > 0 {
		r.slowed += max(0, float64(waited-s.waited)/float64(ran))
	}
}

// judges sees whether the witnesses were treated well, and memory stayed in
// its bound.
func (s *scene) judges(r *row, said *testimony, alive int) {
	s.t.Helper()
	s.echoed += said.Messages
	r.said = said
	r.peers += s.herd.sources
	r.bytes += s.herd.payload + said.Payload
	for _, trouble := range said.Trouble {
		s.t.Errorf("a witness: %s", trouble)
	}
	if said.Alive != alive {
		s.t.Errorf("%d witnesses are left, not %d", said.Alive, alive)
	}
	if most := s.limit(r); said.Max > most && !underRace {
		s.t.Errorf("a witness has waited %v, and %v is the limit: undisturbed p99 is %v, the server was slowed %.2f times, witnesses were woken %v late, and %v are excused",
			said.Max, most, s.calm.P99, r.slowed, said.Late, s.excuse)
	}
	if r.peak > s.part.bound && !underRace {
		s.t.Errorf("the server's memory was %s, and may be %s", mib(r.peak), mib(s.part.bound))
	}
	r.lost = "0"
	if s.t.Failed() {
		r.lost = "FAILED"
	}
}

// residentBound returns the most resident memory that the server may have: what the README promises,
// for as many descriptors as a process may have here. It is not scraped.
func (s *scene) residentBound() int {
	server := limits.Server{Workers: s.server.workers, BufferSize: pool.BufferSize, BufferBudget: cmp.Or(s.budget, 256<<20)}
	return limits.StartMemory + int(server.Growth()) + 20_000*(limits.SlotMemory+server.Workers/4)
}

// audits compares the server's account with everybody else's.
func (s *scene) audits(sum *totals, said *testimony) {
	s.t.Helper()
	ended := 0
	for _, n := range sum.Ended {
		ended += n
	}
	if atOnce := sum.Refused["at_once"]; sum.Accepted != ended+atOnce {
		s.t.Errorf("the server has accepted %d connections; %d have ended and %d were refused at once", sum.Accepted, ended, atOnce)
	}
	if n := s.herd.sources + witnessCount; sum.Accepted > n {
		s.t.Errorf("the server has accepted %d connections, of %d", sum.Accepted, n)
	}
	if n := sum.Ended["internal failure"] + sum.Ended["out of memory"]; n > 0 {
		s.t.Errorf("the server has given up %d connections: %v", n, sum.Ended)
	}
	messages, bytes := s.herd.messages+s.echoed, s.herd.received+said.Received
	if sum.Messages < messages || sum.BytesOut < bytes {
		s.t.Errorf("the server has sent %d messages and %d bytes, by its account, and peers have got %d and %d",
			sum.Messages, sum.BytesOut, messages, bytes)
	}
	if s.exact && (sum.Messages != messages || sum.BytesOut != bytes) {
		s.t.Errorf("the server has sent %d messages and %d bytes, by its account, but peers have got %d and %d",
			sum.Messages, sum.BytesOut, messages, bytes)
	}
}

// topics that several faults have.
var (
	chatter = &topic{most: 4 << 10, fragmented: 20, pinged: 10}
	word    = &topic{most: 125}
	page    = &topic{most: 100 << 10, exact: true}
	pieces  = &topic{most: 8 << 10, exact: true, fragmented: 100}
	book    = &topic{most: 1 << 20, exact: true}
)
