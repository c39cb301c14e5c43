package chaos

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A swarm holds thousands of scripted peers on one epoll loop. The loop has its own thread at the
// lowest priority (nice 19), because the peers share the machine's CPUs with the server that is
// measured. Peers on other machines would not take CPU time from it.
//
// The loop runs only while a test waits for it (waitUntil, runFor), so no lock is needed. All state
// belongs to the goroutine of run.
type swarm struct {
	t      *testing.T
	server unix.SockaddrInet4
	work   chan func()

	poller *netpoll.Poller
	events []netpoll.Event
	buffer []byte
	now    time.Time

	byFD       map[int]*peer
	gen        uint32
	connecting []*peer // not connected yet
	queue      []*peer // have a turn in the next iteration
	timers     timers
	sources    int // connections so far; each uses the next of 250 source addresses

	received int // bytes received from the server, handshakes and headers included
	messages int // completely echoed messages of peers that have ended
	payload  int // echoed payload bytes of peers that have ended
}

const (
	maxIO            = 64 << 10 // most bytes that a peer sends or reads in one turn
	connectBatchSize = 256      // so that the listener's backlog does not overflow
)

func newSwarm(t *testing.T, addr string) *swarm {
	t.Helper()
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := netpoll.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &swarm{
		t: t, work: make(chan func()), poller: poller, events: make([]netpoll.Event, 1024),
		server: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()},
		buffer: make([]byte, maxIO), byFD: map[int]*peer{},
	}
	go s.run()
	t.Cleanup(func() {
		s.do(func() {
			for _, p := range s.byFD {
				netpoll.Close(p.fd)
			}
		})
		close(s.work)
	})
	return s
}

// run is the loop's goroutine, locked to its thread.
func (s *swarm) run() {
	runtime.LockOSThread() // never unlocked, so the thread ends, and its low priority with it
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	for f := range s.work {
		f()
	}
	s.poller.Close()
}

// do calls f on the loop's goroutine and waits until it returns.
func (s *swarm) do(f func()) {
	done := make(chan struct{})
	s.work <- func() {
		defer close(done)
		s.now = time.Now()
		f()
	}
	<-done
}

// waitUntil runs the loop until cond is true, and fails the test if that takes longer than
// waitTimeout.
func (s *swarm) waitUntil(what string, cond func() bool) {
	s.t.Helper()
	if !s.runUntil(waitTimeout, cond) {
		s.t.Fatalf("after %v, not true yet: %s; peers by position: %s", waitTimeout, what, s.progress())
	}
}

// runFor runs the loop for a duration.
func (s *swarm) runFor(d time.Duration) { s.runUntil(d, func() bool { return false }) }

func (s *swarm) runUntil(d time.Duration, cond func() bool) (met bool) {
	s.do(func() {
		for deadline := s.now.Add(d); !met && s.now.Before(deadline); met = cond() {
			s.poll(deadline)
		}
	})
	return met
}

// poll waits for events and timers, and gives a turn to every peer that has one.
func (s *swarm) poll(deadline time.Time) {
	s.connectBatch()
	n, _, err := s.poller.Wait(s.events, s.pollTimeout(deadline))
	if err != nil {
		panic(err)
	}
	s.now = time.Now()
	for i := range s.events[:n] {
		e := &s.events[i]
		if p := s.byFD[e.FD()]; p != nil && p.gen == e.Gen() {
			p.canRead = p.canRead || e.Readable()
			p.canWrite = p.canWrite || e.Writable()
			p.turn()
		}
	}
	for len(s.timers) > 0 && !s.timers[0].at.After(s.now) {
		p := heap.Pop(&s.timers).(timer).peer
		p.turn()
	}
	queued := s.queue
	s.queue = nil
	for _, p := range queued {
		p.queued = false
		p.turn()
	}
}

// pollTimeout returns how long poll may wait for events: until the next timer or the deadline, but
// at most 10 ms, since the condition that a test waits for may depend on the server alone.
func (s *swarm) pollTimeout(deadline time.Time) time.Duration {
	if len(s.queue) > 0 || len(s.connecting) > 0 {
		return 0
	}
	if len(s.timers) > 0 && s.timers[0].at.Before(deadline) {
		deadline = s.timers[0].at
	}
	return max(0, min(time.Until(deadline), 10*time.Millisecond))
}

// enqueue gives a peer a turn in the next iteration.
func (s *swarm) enqueue(p *peer) {
	if !p.queued {
		p.queued = true
		s.queue = append(s.queue, p)
	}
}

// connectBatch starts the next connections, at most connectBatchSize of them.
func (s *swarm) connectBatch() {
	few := min(len(s.connecting), connectBatchSize)
	for _, p := range s.connecting[:few] {
		if err := s.connect(p); err != nil {
			p.finish("connect: " + err.Error())
		}
	}
	s.connecting = s.connecting[few:]
}

func (s *swarm) connect(p *peer) (err error) {
	p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.gen++
	p.gen = s.gen
	s.byFD[p.fd] = p
	s.sources++
	p.connectedAt = s.now
	source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + s.sources%250)}}
	for option, value := range p.link.options() {
		if err := unix.SetsockoptInt(p.fd, option.level, option.name, value); err != nil {
			return err
		}
	}
	if err := unix.Bind(p.fd, source); err != nil {
		return err
	}
	if err := unix.Connect(p.fd, &s.server); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return s.poller.Add(p.fd, p.gen, netpoll.ReadWrite)
}

// link is the kind of TCP connection that a peer has.
type link int

const (
	near   link = iota // loopback defaults: segments of 64 KiB, buffers of megabytes
	far                // like Ethernet: segments of 1,448 bytes, a send buffer of 32 KiB
	narrow             // far with a receive buffer of 4 KiB, so the window closes after a few KiB
)

type option struct{ level, name int }

func (l link) options() map[option]int {
	all := map[option]int{
		{unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT}: 1, // a port is free per source address
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}:        1,
	}
	if l >= far {
		all[option{unix.IPPROTO_TCP, unix.TCP_MAXSEG}] = 1448
		all[option{unix.SOL_SOCKET, unix.SO_SNDBUF}] = 32 << 10
	}
	if l == narrow {
		all[option{unix.SOL_SOCKET, unix.SO_RCVBUF}] = 4 << 10
	}
	return all
}

// A group holds peers with the same kind of script.
type group struct {
	swarm *swarm
	name  string

	size     int
	open     int            // peers that have not finished their script
	waiting  int            // those of them that wait at a gate
	outcomes map[string]int // number of finished peers by outcome
	sent     int            // bytes sent
	payload  int            // payload bytes echoed
	failures []string       // the first failures
}

// group adds n peers to the swarm, each with its own script.
func (s *swarm) group(name string, n int, l link, r rng, script func(r *rng) []step) *group {
	g := &group{swarm: s, name: name, outcomes: map[string]int{}}
	s.do(func() {
		for i := range n {
			rnd := r.fork(fmt.Sprint(name, i))
			g.add(&peer{swarm: s, group: g, link: l, script: script(&rnd)})
		}
	})
	return g
}

func (g *group) add(p *peer) {
	g.size++
	g.open++
	g.swarm.connecting = append(g.swarm.connecting, p)
}

// done reports whether all peers have finished their scripts.
func (g *group) done() bool { return g.open == 0 }

// wantOutcome waits until all peers are done, and wants each to have one of the given outcomes.
func (g *group) wantOutcome(ways ...string) {
	t := g.swarm.t
	t.Helper()
	g.swarm.waitUntil(g.name+" have ended", g.done)
	for outcome := range g.outcomes {
		if !slices.Contains(ways, outcome) {
			g.failures = append(g.failures, outcome)
		}
	}
	if len(g.failures) > 0 {
		t.Errorf("%d %s: want outcome %s, got %s; first failures: %s",
			g.size, g.name, strings.Join(ways, " or "), tally(g.outcomes), strings.Join(g.failures, "; "))
	}
}

// waitBlocked waits until no peer of a group can send any more, because every buffer on the path to
// the server and back is full.
func (s *swarm) waitBlocked(g *group) {
	s.t.Helper()
	before, since := -1, time.Now()
	s.waitUntil(g.name+" cannot send any more", func() bool {
		if g.sent != before {
			before, since = g.sent, s.now
		}
		return s.now.Sub(since) > 100*time.Millisecond
	})
}

// progress describes the steps of their scripts that the peers are at.
func (s *swarm) progress() string {
	at := map[string]int{}
	s.do(func() {
		for _, p := range s.byFD {
			at[fmt.Sprintf("%s, step %d of %d", p.group.name, p.at+1, len(p.script))]++
		}
		if n := len(s.connecting); n > 0 {
			at["not connected"] = n
		}
	})
	return tally(at)
}

func tally(counts map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d %s", counts[what], what))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

// A peer is one scripted connection.
type peer struct {
	swarm  *swarm
	group  *group
	link   link
	script []step
	at     int // index of the current step

	fd     int
	gen    uint32
	queued bool
	atGate bool
	done   bool

	canRead, canWrite        bool // the socket's last known readiness
	sender                   sender
	verifier                 verifier
	notReading               bool
	readPace                 pace
	gotEOF                   bool // the server has sent FIN
	broken                   error
	arrived                  int // messages that must be echoed before the server closes with 1001
	connectedAt, pausedUntil time.Time
	timerAt                  time.Time // of the pending timer; in the past if there is none
}

// sender holds the output of a peer: raw bytes first, then a stream.
type sender struct {
	raw            []byte
	stream         stream
	started        stream // copy of the stream at its start
	messagesBefore int    // messages of earlier streams
	limit          int    // bytes of the stream to send; 0: all
	sent           int    // bytes of the stream that the kernel has accepted
	window         int    // most messages without an echo; 0: no limit
	pace           pace
}

// begin starts a stream, whose echo is expected from now on.
func (p *peer) begin(s stream) {
	out := &p.sender
	out.messagesBefore += out.stream.completed
	out.stream, out.started, out.sent, out.limit, out.window = s, s, 0, 0, 0
	p.verifier.expect(s)
}

// onlyFrame ends the stream after its current frame.
func (out *sender) onlyFrame() {
	unsent := out.stream.frame.size - out.stream.at
	out.window, out.limit = 0, out.sent+unsent
	if unsent == 0 {
		out.stream = stream{}
	}
}

// markArrived records for each peer how many of its messages have arrived completely, that is, have
// been acknowledged by the server's kernel (SIOCOUTQ, tcp(7)).
func (s *swarm) markArrived() {
	s.do(func() {
		for _, p := range s.byFD {
			unacknowledged, err := unix.IoctlGetInt(p.fd, unix.SIOCOUTQ)
			if err != nil {
				panic(err)
			}
			arrived := p.sender.started
			arrived.skip(p.sender.sent - unacknowledged)
			p.arrived = p.sender.messagesBefore + arrived.completed
		}
	})
}

// maxCompleted returns the number of messages of the stream that may be sent completely when echoed
// messages have been echoed on the connection.
func (out *sender) maxCompleted(echoed int) int {
	if out.window == 0 {
		return endless
	}
	return echoed - out.messagesBefore + out.window
}

// pace limits reading or writing to a number of bytes per interval. The zero value is no limit.
type pace struct {
	bytes int
	every time.Duration
	next  time.Time // time of the next read or write
}

func (p *pace) size() int {
	if p.bytes == 0 {
		return maxIO
	}
	return p.bytes
}

// turn lets a peer read, write, and continue its script.
func (p *peer) turn() {
	if p.done {
		return
	}
	p.read()
	p.write()
	p.runScript()
	if p.done {
		return
	}
	if p.wantsToRead() || p.wantsToWrite() {
		p.swarm.enqueue(p)
	}
	p.setTimer()
}

// setTimer gives the peer a turn at the first of the times that it waits for.
func (p *peer) setTimer() {
	s := p.swarm
	pending := p.timerAt.After(s.now)
	for _, at := range []time.Time{p.readPace.next, p.sender.pace.next, p.pausedUntil} {
		if at.After(s.now) && (!pending || at.Before(p.timerAt)) {
			pending, p.timerAt = true, at
			heap.Push(&s.timers, timer{at, p})
		}
	}
}

// runScript runs the script up to the first step that must wait. It finishes the peer if the
// connection has ended and that step does not handle the end.
func (p *peer) runScript() {
	for !p.done && p.at < len(p.script) && p.script[p.at](p) {
		p.at++
	}
	switch {
	case p.done:
	case p.at == len(p.script):
		p.finish("done")
	case p.broken != nil:
		p.finish(p.broken.Error())
	case p.gotEOF && p.verifier.status > 101:
		p.finish(fmt.Sprint(p.verifier.status))
	case p.gotEOF:
		p.finish(fmt.Sprintf("end of file (close code %d)", p.verifier.closed))
	}
}

// finish closes a peer's connection and records its outcome.
func (p *peer) finish(outcome string) {
	if p.done {
		return
	}
	p.done = true
	g := p.group
	g.open--
	g.outcomes[outcome]++
	if p.atGate {
		g.waiting--
	}
	g.payload += p.verifier.payload
	p.swarm.payload += p.verifier.payload
	p.swarm.messages += p.verifier.messages
	if p.fd > 0 {
		delete(p.swarm.byFD, p.fd)
		netpoll.Close(p.fd)
	}
}

// fail records a violation of the protocol or a wrong echo, and finishes the peer.
func (p *peer) fail(err error) {
	if len(p.group.failures) < 3 {
		p.group.failures = append(p.group.failures, err.Error())
	}
	p.finish("unexpected data")
}

// wantsToRead reports whether the peer can and may read now.
func (p *peer) wantsToRead() bool {
	return p.canRead && !p.notReading && !p.gotEOF && p.broken == nil && !p.readPace.next.After(p.swarm.now)
}

func (p *peer) read() {
	if !p.wantsToRead() {
		return
	}
	n, err := netpoll.Recv(p.fd, p.swarm.buffer[:p.readPace.size()])
	switch {
	case errors.Is(err, io.EOF):
		p.gotEOF = true
		return
	case err != nil:
		p.broken = err
		return
	case n == 0:
		p.canRead = false
		return
	}
	p.swarm.received += n
	if err := p.verifier.verify(p.swarm.buffer[:n]); err != nil {
		p.fail(err)
		return
	}
	p.readPace.next = p.swarm.now.Add(p.readPace.every)
}

// hasOutput reports whether there is anything to send now.
func (p *peer) hasOutput() bool {
	out := &p.sender
	if len(out.raw) > 0 {
		return true
	}
	return !out.stream.done() && (out.limit == 0 || out.sent < out.limit) &&
		out.stream.completed < out.maxCompleted(p.verifier.messages)
}

func (p *peer) wantsToWrite() bool {
	return p.canWrite && p.broken == nil && p.hasOutput() && !p.sender.pace.next.After(p.swarm.now)
}

func (p *peer) write() {
	if !p.wantsToWrite() {
		return
	}
	out := &p.sender
	if len(out.raw) > 0 {
		out.raw = out.raw[p.send(out.raw[:min(len(out.raw), out.pace.size())]):]
	} else {
		next, size := out.stream, out.pace.size()
		if out.limit > 0 {
			size = min(size, out.limit-out.sent)
		}
		n := p.send(p.swarm.buffer[:next.render(p.swarm.buffer[:size], out.maxCompleted(p.verifier.messages))])
		out.stream.skip(n)
		out.sent += n
	}
	out.pace.next = p.swarm.now.Add(out.pace.every)
}

// send writes b and returns the number of bytes that the kernel has accepted.
func (p *peer) send(b []byte) int {
	n, err := netpoll.Send(p.fd, b)
	if err == unix.EPIPE {
		// The server has reset the connection. The next read returns what it sent before, or the
		// reset.
		p.canWrite, p.canRead = false, true
		return 0
	}
	if err != nil {
		p.broken = err
	}
	p.canWrite = n == len(b)
	p.group.sent += n
	return n
}

// timers is a heap of peers ordered by the time of their next turn.
type timers []timer

type timer struct {
	at   time.Time
	peer *peer
}

func (a timers) Len() int           { return len(a) }
func (a timers) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a timers) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *timers) Push(x any)        { *a = append(*a, x.(timer)) }
func (a *timers) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}
