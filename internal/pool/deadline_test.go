package pool

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
)

// late is by how much a deadline may be missed.
const late = sweepTime + 2*tickTime

func idleTimeout(d time.Duration) func(*Config) { return func(cfg *Config) { cfg.IdleTimeout = d } }

func TestHandshakeTimeout(t *testing.T) {
	h := opens(t)
	silent, slow, quick := h.dials(), h.dials(), h.connects()
	for range 9 {
		slow.sends([]byte(request[:1+len(slow.got)]))
		h.later(time.Second)
	}
	silent.wantsNothing("it has time")
	h.later(time.Second + late)
	silent.wantsStatus("too slow", 408)
	slow.wantsStatus("a byte now and then gains no time", 408)
	quick.alive("no limit any more")
	silent.closes()
	slow.closes()
	h.until("they have ended", func() bool { return h.conns() == 1 })
	h.wantsCount("refused with 408", h.count().Codes[408], 2)
}

func TestPingAtAThirdOfTheSilenceAndCloseAtItsEnd(t *testing.T) {
	h := opens(t, idleTimeout(30*time.Second))
	p := h.connects()
	h.later(10*time.Second - late)
	p.wantsNothing("not silent for long enough")
	h.later(2 * late)
	p.wants("a ping at a third", []byte{0x89, 0})
	h.later(10 * time.Second)
	p.wantsNothing("one ping is enough")
	h.later(10*time.Second - 2*late)
	p.wantsNothing("not yet")
	h.later(2 * late)
	p.wantsClose("silent for too long", 1001)
	p.sends(masked(closing(1001)))
	p.wantsFIN("it has answered")
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 1)
	h.wantsCount("closed with 1001", h.count().Codes[1001], 0) // when it has ended
	p.closes()
	h.until("it has ended", func() bool { return h.conns() == 0 })
	h.wantsCount("closed with 1001", h.count().Codes[1001], 1)
}

func TestAnyByteEndsTheSilence(t *testing.T) {
	h := opens(t, idleTimeout(30*time.Second))
	p, dribbler := h.connects(), h.connects()
	half := masked(binary(1, 1000))
	for range 10 {
		h.later(10*time.Second + late)
		p.wants("a ping", []byte{0x89, 0})
		p.sends([]byte{0x8a, 0x80, 0, 0, 0, 0}) // a pong
		dribbler.wants("a ping", []byte{0x89, 0})
		dribbler.sends(half[:1])
		half = half[1:]
		h.settles()
	}
	p.alive("still open")
	dribbler.sends(half)
	dribbler.wantsEcho("still open", binary(1, 1000))
	h.wantsCount("idle timeouts", h.count().IdleTimeouts, 0)
}

func TestNoIdleTimeout(t *testing.T) {
	h := opens(t)
	p := h.connects()
	h.settles()
	if w := h.workers[0]; w.conns.deadlines.n != 0 || w.patience() != -1 {
		t.Errorf("%d connections have a deadline, the worker's patience is %v", w.conns.deadlines.n, w.patience())
	}
	h.later(MaxTimeout)
	p.alive("it may be silent for ever")
}

func TestWriteTimeout(t *testing.T) {
	h := opens(t)
	p, witness := h.reluctant(), h.connects()
	frames := messages(2000, 3000)
	rest := p.stuffs(masked(frames...))
	for range 3 { // as long as it reads now and then
		h.later(20 * time.Second)
		for before := h.count().BytesOut; h.count().BytesOut == before; h.settles() {
			p.sips()
		}
		rest = p.stuffs(rest)
	}
	h.wantsEnded(nil)
	h.later(30*time.Second + late)
	witness.alive("those that read")
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A connection that is parked waits for its peer to read just as one with a
// backlog does, and so do those that are starved besides.
func TestWriteTimeoutInLowMemoryTurns(t *testing.T) {
	h := opens(t)
	defer h.spends()()
	h.spareOwner()
	p := h.reluctant()
	p.stuffs(masked(messages(500, 3000)...))
	s, _ := p.slot()
	if !s.is(parked) {
		t.Fatal("it is not parked")
	}
	s.set(starved)
	h.later(30*time.Second + late)
	h.until("it has ended", func() bool { return h.conns() == 1 })
	h.wantsEnded(map[Reason]uint64{WriteTimedOut: 1})
}

// A connection that is starved is looked at by every sweep, and its deadline
// all the same.
func TestIdleTimeoutWhenStarved(t *testing.T) {
	h := opens(t, idleTimeout(30*time.Second))
	defer h.spends()()
	h.spareOwner()
	p, q := h.connects(), h.connects()
	half := masked(ping("is it long enough?"))
	p.sends(half[:9])
	q.sends(half[:9])
	h.settles()
	if s, _ := p.slot(); !s.is(starved) {
		t.Fatal("it is not starved")
	}
	h.later(10*time.Second + late)
	p.wants("a ping", []byte{0x89, 0})
	q.wants("a ping", []byte{0x89, 0})
	q.sends(half[9:])
	q.wantsEcho("it is whole", ping("is it long enough?"))
	h.later(20 * time.Second)
	p.wantsClose("silent for too long", 1001)
	q.wants("a ping", []byte{0x89, 0})
}

// A connection that was parked and finds nothing to read has no deadline any
// more.
func TestParkedForNothing(t *testing.T) {
	h := opens(t)
	p := h.connects()
	h.settles()
	s, fd := p.slot()
	w := h.workers[0]
	h.later(time.Hour)
	s.set(unread)             // as by an edge for what has been read already
	w.conns.park(conn{fd, s}) // there was neither memory nor room for a moment
	if s.since != h.time {
		t.Errorf("its time counts from %d, want %d", s.since, h.time)
	}
	h.settles()
	h.later(time.Hour)
	p.wantsNothing("nothing has happened")
	p.alive("it is open")
}

func TestCloseTimeout(t *testing.T) {
	h := opens(t)
	p := h.connects()
	s, fd := p.slot()
	h.later(time.Hour)
	h.workers[0].conns.goodbye(conn{fd, s}, "test")
	p.wantsClose("the goodbye", 1001)
	p.sends(masked(text("never mind")))
	h.later(5*time.Second - late)
	p.wantsNothing("it has time to answer, and nothing else is")
	h.later(2 * late)
	p.wantsFIN("it has not answered")
	h.wantsEnded(map[Reason]uint64{CloseTimedOut: 1})
}

func TestLingerTimeout(t *testing.T) {
	h := opens(t)
	p := h.connects()
	p.sends(masked(closing(1000)))
	p.wantsEcho("the close", closing(1000))
	p.wantsFIN("our end")
	h.later(2*time.Second - late)
	h.wantsEnded(nil)
	for range 5 {
		p.sends(masked(text("did you hear me?")))
		h.settles()
	}
	h.later(2 * late)
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}

// However high the descriptors are, and however many, each is looked at in
// time; a sweep looks at a slice of them.
func TestSweepFindsEveryDescriptor(t *testing.T) {
	const high = 1 << 20
	h := opens(t, idleTimeout(time.Second), func(cfg *Config) { cfg.MaxFDs = high })
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
		p, low := h.stranger()
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
	h.settles()
	h.time += ticks(time.Second)
	for range 16 + 1 { // a sixteenth each
		h.time += sweepEvery
		h.pass()
	}
	for i, p := range peers {
		p.wantsClose("silent", 1001)
		p.closes()
		t.Logf("descriptor %d was found", fds[i])
	}
	if w.conns.deadlines.high < fds[len(fds)-1] {
		t.Errorf("the highest is %d, want %d", w.conns.deadlines.high, fds[len(fds)-1])
	}
}

// A sweep of a large set examines a slice of it, and sixteen sweeps examine all.
func TestSweepTakesSlices(t *testing.T) {
	d := deadlines{set: make(fdSet, 1<<20/64)}
	all := []int{0, 63, 64, 65_535, 65_536, 1_000_000, 1<<20 - 1}
	for _, fd := range all {
		d.add(fd)
	}
	examined := map[int]int{}
	for sweep := range 16 {
		from := d.at
		for fd := range d.expired(1000, func(fd int) tick { examined[fd]++; return 1001 }) {
			t.Errorf("descriptor %d has expired, which had a tick to go", fd)
		}
		if words := d.at - from; words != 1<<20/64/16 && sweep < 15 {
			t.Errorf("sweep %d has examined %d words, want a sixteenth", sweep, words)
		}
	}
	for _, fd := range all {
		if examined[fd] != 1 {
			t.Errorf("16 sweeps have examined descriptor %d %d times, want once", fd, examined[fd])
		}
	}
}

// Deadlines are told apart across the wrap of the clock, and the loop over those that have expired
// may remove them.
func TestExpired(t *testing.T) {
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
		t.Errorf("%v have expired and %d are left, want %v and 2", got, d.n, want)
	}
}

// A worker that has something to do, now or later, does not wait for ever for
// an event.
func TestPatience(t *testing.T) {
	h := opens(t)
	w := h.workers[0]
	wants := func(why string, want time.Duration) {
		t.Helper()
		if got := w.patience(); got != want {
			t.Errorf("%s: %v, want %v", why, got, want)
		}
	}
	wants("nothing to do", -1)
	p := h.dials()
	h.settles()
	wants("a connection has a deadline", sweepTime)
	p.upgrades()
	h.settles()
	wants("it has none any more", -1)
	w.conns.store.untidy = true
	wants("memory to give back", sweepTime)
	h.later(3 * trimEvery * tickTime)
	w.conns.store.untidy = false
	w.acceptor.ignore()
	wants("it does not listen", sweepTime)
	if err := w.acceptor.watch(); err != nil {
		t.Fatal(err)
	}
	s, fd := p.slot()
	w.conns.goOn(conn{fd, s})
	wants("a connection goes on", 0)
	w.runQueue()
	w.drain.begun = true
	wants("it drains", sweepTime)
	w.drain.begun = false
	wants("nothing to do", -1)
}

func TestTicks(t *testing.T) {
	for d, want := range map[time.Duration]tick{
		0: 0, 1: 1, tickTime: 1, tickTime + 1: 2, time.Second: 60, MaxTimeout: 1_879_692_078,
	} {
		if got := ticks(d); got != want || time.Duration(got)*tickTime < d {
			t.Errorf("%v is %d ticks, want %d", d, got, want)
		}
	}
}

// Time that wraps does not matter.
func TestClockWraps(t *testing.T) {
	h := opens(t, idleTimeout(30*time.Second))
	h.time = -ticks(15 * time.Second)
	h.pass()
	p := h.connects()
	h.later(10*time.Second - late)
	p.wantsNothing("not silent for long enough")
	h.later(2 * late)
	p.wants("a ping", []byte{0x89, 0})
	h.later(20*time.Second - 3*late)
	p.wantsNothing("not yet, and meanwhile time has wrapped")
	h.later(3 * late)
	p.wantsClose("silent for too long", 1001)
}

// The shortest timeout that there is passes like any other.
func TestTimeoutOfOneTick(t *testing.T) {
	h := opens(t, func(cfg *Config) {
		cfg.HandshakeTimeout, cfg.WriteTimeout, cfg.CloseTimeout, cfg.LingerTimeout = 1, 1, 1, 1
	})
	silent := h.dials()
	h.settles()
	h.later(late)
	silent.wantsStatus("too slow", 408)
	h.later(late)
	h.until("it has ended", func() bool { h.time += sweepEvery; return h.conns() == 0 })
	h.wantsEnded(map[Reason]uint64{Completed: 1})
}
