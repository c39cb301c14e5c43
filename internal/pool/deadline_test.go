package pool

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
)

// late is the maximum delay between a deadline and its expiry.
const late = sweepTime + 2*tickTime

func idleTimeout(d time.Duration) func(*Config) { return func(cfg *Config) { cfg.IdleTimeout = d } }

func TestHandshakeTimeout(t *testing.T) {
	h := newHarness(t)
	silent, slow, quick := h.dials(), h.dials(), h.connects()
	for range 9 {
		slow.sends([]byte(request[:1+len(slow.got)]))
		h.advances(time.Second)
	}
	silent.wantsNothing("before the timeout")
	h.advances(time.Second + late)
	silent.wantsStatus("no request within the timeout", 408)
	slow.wantsStatus("incomplete request after the timeout", 408)
	quick.wantsAlive("open connections have no handshake timeout")
	silent.closes()
	slow.closes()
	h.until("they have ended", func() bool { return h.conns() == 1 })
	h.wantsCount("refused with 408", h.count().Codes[408], 2)
}

func TestIdleTimeoutPingsFirst(t *testing.T) {
	h := newHarness(t, idleTimeout(30*time.Second))
	p := h.connects()
	h.advances(10*time.Second - late)
	p.wantsNothing("before a third of the timeout")
	h.advances(2 * late)
	p.wants("ping after a third of the timeout", []byte{0x89, 0})
	h.advances(10 * time.Second)
	p.wantsNothing("no second ping")
	h.advances(10*time.Second - 2*late)
	p.wantsNothing("before the timeout")
	h.advances(2 * late)
	p.wantsClose("after the timeout", 1001)
	p.sends(masked(closing(1001)))
	p.wantsFIN("after the close reply")
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 1)
	h.wantsCount("closed with 1001", h.count().Codes[1001], 0) // counted when it has ended
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsCount("closed with 1001", h.count().Codes[1001], 1)
}

func TestAnyInputRestartsIdleTimeout(t *testing.T) {
	h := newHarness(t, idleTimeout(30*time.Second))
	p, dribbler := h.connects(), h.connects()
	half := masked(binary(1, 1000))
	for range 10 {
		h.advances(10*time.Second + late)
		p.wants("ping after a third of the timeout", []byte{0x89, 0})
		p.sends([]byte{0x8a, 0x80, 0, 0, 0, 0}) // a pong
		dribbler.wants("ping after a third of the timeout", []byte{0x89, 0})
		dribbler.sends(half[:1])
		half = half[1:]
		h.runsUntilIdle()
	}
	p.wantsAlive("after pongs only")
	dribbler.sends(half)
	dribbler.wantsEcho("after single bytes of a frame", binary(1, 1000))
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
}

func TestWorkerSleepsWithoutIdleTimeout(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	h.runsUntilIdle()
	if w := h.workers[0]; w.conns.deadlines.n != 0 || w.patience() != -1 {
		t.Errorf("got %d deadlines and a patience of %v, want 0 and -1ns", w.conns.deadlines.n, w.patience())
	}
	h.advances(MaxTimeout)
	p.wantsAlive("after a year of silence")
}

func TestWriteTimeout(t *testing.T) {
	h := newHarness(t)
	p, witness := h.connectsWithSmallBuffers(), h.connects()
	frames := messages(2000, 3000)
	remaining := p.sendsUntilBlocked(masked(frames...))
	for range 3 { // it reads something within each timeout
		h.advances(20 * time.Second)
		for before := h.count().BytesOut; h.count().BytesOut == before; h.runsUntilIdle() {
			p.readsSome()
		}
		remaining = p.sendsUntilBlocked(remaining)
	}
	h.wantsEnded(nil)
	h.advances(30*time.Second + late)
	witness.wantsAlive("another connection")
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// WriteTimeout applies to a parked connection as it does to one with a write backlog, even if it is
// also starved.
func TestWriteTimeoutAppliesToParkedConnections(t *testing.T) {
	h := newHarness(t)
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p := h.connectsWithSmallBuffers()
	p.sendsUntilBlocked(masked(messages(500, 3000)...))
	s, _ := p.slot()
	if !s.is(parked) {
		t.Fatal("the connection is not parked")
	}
	s.set(starved)
	h.advances(30*time.Second + late)
	h.until("it has ended", func() bool { return h.conns() == 1 })
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// Every sweep retries a starved connection, and still applies its timeout.
func TestIdleTimeoutAppliesToStarvedConnections(t *testing.T) {
	h := newHarness(t, idleTimeout(30*time.Second))
	defer h.exhaustsBudget()()
	h.takesSpareBlock()
	p, q := h.connects(), h.connects()
	half := masked(ping("is it long enough?"))
	p.sends(half[:9])
	q.sends(half[:9])
	h.runsUntilIdle()
	if s, _ := p.slot(); !s.is(starved) {
		t.Fatal("the connection is not starved")
	}
	h.advances(10*time.Second + late)
	p.wants("ping after a third of the timeout", []byte{0x89, 0})
	q.wants("ping after a third of the timeout", []byte{0x89, 0})
	q.sends(half[9:])
	q.wantsEcho("the complete ping", ping("is it long enough?"))
	h.advances(20 * time.Second)
	p.wantsClose("after the timeout", 1001)
	q.wants("ping after a third of the restarted timeout", []byte{0x89, 0})
}

// A parked connection that turns out to have no input returns to open, without a write timeout.
func TestParkedConnectionWithoutInputHasNoDeadline(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	h.runsUntilIdle()
	s, fd := p.slot()
	w := h.workers[0]
	h.advances(time.Hour)
	s.set(unread)             // as after an edge for input that has already been read
	w.conns.park(conn{fd, s}) // as if memory was short and the socket not writable
	if s.since != h.time {
		t.Errorf("since is %d, want %d", s.since, h.time)
	}
	h.runsUntilIdle()
	h.advances(time.Hour)
	p.wantsNothing("without input")
	p.wantsAlive("after having been parked")
}

func TestCloseTimeout(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	s, fd := p.slot()
	h.advances(time.Hour)
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	p.wantsClose("close frame", 1001)
	p.sends(masked(text("never mind")))
	h.advances(5*time.Second - late)
	p.wantsNothing("no echo after the close frame, and no FIN before the timeout")
	h.advances(2 * late)
	p.wantsFIN("after the timeout")
	h.wantsEnded(map[Reason]uint64{CloseTimedOut: 1})
}

func TestLingerTimeout(t *testing.T) {
	h := newHarness(t)
	p := h.connects()
	p.sends(masked(closing(1000)))
	p.wantsEcho("close reply", closing(1000))
	p.wantsFIN("after the close reply")
	h.advances(2*time.Second - late)
	h.wantsEnded(nil)
	for range 5 {
		p.sends(masked(text("did you hear me?")))
		h.runsUntilIdle()
	}
	h.advances(2 * late)
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

// Sweeps find deadlines of low and high descriptors in time.
func TestSweepFindsEveryDescriptor(t *testing.T) {
	const high = 1 << 20
	h := newHarness(t, idleTimeout(time.Second), func(cfg *Config) { cfg.MaxFDs = high })
	w := h.workers[0]
	var fds []int
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var peers []*peer
	for _, least := range []int{300, 1000, 5000, 10_000, int(limit.Cur) - 10} {
		if least >= min(high, int(limit.Cur)) {
			continue
		}
		p, low := h.socketPair()
		fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, least)
		unix.Close(low)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Adopt(fd, netip.AddrPort{}, echo.Upgraded(), nil, noGreeting); err != nil {
			t.Fatal(err)
		}
		h.adopted++
		fds = append(fds, fd)
		peers = append(peers, p)
	}
	h.runsUntilIdle()
	h.time += ticks(time.Second)
	for range 16 + 1 { // a sixteenth each
		h.time += sweepEvery
		h.pass()
	}
	for i, p := range peers {
		p.wantsClose("after the timeout", 1001)
		p.closes()
		t.Logf("descriptor %d was found", fds[i])
	}
	if w.conns.deadlines.high < fds[len(fds)-1] {
		t.Errorf("deadlines.high is %d, want at least %d", w.conns.deadlines.high, fds[len(fds)-1])
	}
}

// A sweep of a large set examines a sixteenth of it, and sixteen sweeps examine all.
func TestSweepExaminesOneSliceAtATime(t *testing.T) {
	d := deadlines{set: make(fdSet, 1<<20/64)}
	all := []int{0, 63, 64, 65_535, 65_536, 1_000_000, 1<<20 - 1}
	for _, fd := range all {
		d.add(fd)
	}
	examined := map[int]int{}
	for sweep := range 16 {
		from := d.at
		for fd := range d.expired(1000, func(fd int) tick { examined[fd]++; return 1001 }) {
			t.Errorf("descriptor %d has expired one tick too early", fd)
		}
		if words := d.at - from; words != 1<<20/64/16 && sweep < 15 {
			t.Errorf("sweep %d has examined %d words, want a sixteenth of the set", sweep, words)
		}
	}
	for _, fd := range all {
		if examined[fd] != 1 {
			t.Errorf("16 sweeps have examined descriptor %d %d times, want once", fd, examined[fd])
		}
	}
}

// Deadlines are compared correctly across the clock's wrap, and the loop over expired ones may
// remove them.
func TestExpiredAcrossClockWrap(t *testing.T) {
	now := tick(5) // soon after the clock has wrapped
	at := map[int]tick{1: now - 10, 2: now, 3: now + 1, 200: now - 1, 300: now + 1000}
	d := deadlines{set: make(fdSet, 8)}
	for fd := range at {
		d.add(fd)
	}
	var got []int
	for fd := range d.expired(now, func(fd int) tick { return at[fd] }) {
		got = append(got, fd)
		d.remove(fd)
	}
	if want := []int{1, 2, 200}; !slices.Equal(got, want) || d.n != 2 {
		t.Errorf("%v have expired and %d remain, want %v and 2", got, d.n, want)
	}
}

// A worker with work to do, now or later, does not wait indefinitely for an event.
func TestPatience(t *testing.T) {
	h := newHarness(t)
	w := h.workers[0]
	wants := func(why string, want time.Duration) {
		t.Helper()
		if got := w.patience(); got != want {
			t.Errorf("%s: got a patience of %v, want %v", why, got, want)
		}
	}
	wants("nothing to do", -1)
	p := h.dials()
	h.runsUntilIdle()
	wants("a connection has a deadline", sweepTime)
	p.upgrades()
	h.runsUntilIdle()
	wants("no connection has a deadline", -1)
	w.conns.store.needsTrim = true
	wants("memory to return to the system", sweepTime)
	h.advances(3 * trimEvery * tickTime)
	w.conns.store.needsTrim = false
	w.acceptor.ignore()
	wants("listeners are not watched", sweepTime)
	if err := w.acceptor.watch(); err != nil {
		t.Fatal(err)
	}
	s, fd := p.slot()
	w.conns.goOn(conn{fd, s})
	wants("a connection is queued", 0)
	w.runQueue()
	w.drain.begun = true
	wants("the worker is draining", sweepTime)
	w.drain.begun = false
	wants("nothing to do", -1)
}

func TestTicksRoundUp(t *testing.T) {
	for d, want := range map[time.Duration]tick{
		0: 0, 1: 1, tickTime: 1, tickTime + 1: 2, time.Second: 60, MaxTimeout: 1_879_692_078,
	} {
		if got := ticks(d); got != want || time.Duration(got)*tickTime < d {
			t.Errorf("%v is %d ticks, want %d", d, got, want)
		}
	}
}

func TestIdleTimeoutAcrossClockWrap(t *testing.T) {
	h := newHarness(t, idleTimeout(30*time.Second))
	h.time = -ticks(15 * time.Second)
	h.pass()
	p := h.connects()
	h.advances(10*time.Second - late)
	p.wantsNothing("before a third of the timeout")
	h.advances(2 * late)
	p.wants("ping after a third of the timeout", []byte{0x89, 0})
	h.advances(20*time.Second - 3*late)
	p.wantsNothing("before the timeout, after the clock has wrapped")
	h.advances(3 * late)
	p.wantsClose("after the timeout", 1001)
}

func TestShortestTimeoutExpires(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		cfg.HandshakeTimeout, cfg.WriteTimeout, cfg.CloseTimeout, cfg.LingerTimeout = 1, 1, 1, 1
	})
	silent := h.dials()
	h.runsUntilIdle()
	h.advances(late)
	silent.wantsStatus("no request within the timeout", 408)
	h.advances(late)
	h.until("it has ended", func() bool { h.time += sweepEvery; return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}
