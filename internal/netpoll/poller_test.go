package netpoll

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testTimeout is the time limit for anything that a test waits for. It is long, so that a busy
// machine meets it.
const testTimeout = 10 * time.Second

// watcher wraps a poller: its methods fail the test on an error.
type watcher struct {
	*Poller
	t *testing.T
}

func newWatcher(t *testing.T) watcher {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return watcher{p, t}
}

func (w watcher) adds(fd int, gen uint32, i Interest) {
	w.t.Helper()
	if err := w.Add(fd, gen, i); err != nil {
		w.t.Fatal(err)
	}
}

func (w watcher) modifies(fd int, gen uint32, i Interest) {
	w.t.Helper()
	if err := w.Modify(fd, gen, i); err != nil {
		w.t.Fatal(err)
	}
}

func (w watcher) removes(fd int) {
	w.t.Helper()
	if err := w.Remove(fd); err != nil {
		w.t.Fatal(err)
	}
}

// seen holds the fields of an event.
type seen struct {
	fd                        int
	gen                       uint32
	readable, ended, writable bool
}

// wants waits for exactly one event.
func (w watcher) wants(why string, want seen) {
	w.t.Helper()
	events := make([]Event, 4)
	n, _, err := w.Wait(events, testTimeout)
	if err != nil {
		w.t.Fatalf("%s: %v", why, err)
	}
	if n != 1 {
		w.t.Fatalf("%s: got %d events, want 1", why, n)
	}
	e := &events[0]
	if got := (seen{e.FD(), e.Gen(), e.Readable(), e.Ended(), e.Writable()}); got != want {
		w.t.Fatalf("%s: got event %+v, want %+v", why, got, want)
	}
}

func (w watcher) wantsNothing(why string) {
	w.t.Helper()
	events := make([]Event, 4)
	n, woken, err := w.Wait(events, 0)
	if n != 0 || woken || err != nil {
		w.t.Fatalf("%s: got %d events, woken %v, error %v; want none", why, n, woken, err)
	}
}

func TestAddReportsPendingInput(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 7, Read)
	w.wantsNothing("no input has arrived")
	p.farSends("hello")
	w.wants("input has arrived", seen{fd: p.near, gen: 7, readable: true})

	v := newWatcher(t)
	v.adds(p.near, 8, Read)
	v.wants("input that arrived before Add is new to this poller", seen{fd: p.near, gen: 8, readable: true})
}

func TestReadIsEdgeTriggered(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("one")
	w.wants("input has arrived", seen{fd: p.near, gen: 1, readable: true})
	w.wantsNothing("unread input is not reported again")
	p.farSends("two")
	w.wants("more input has arrived", seen{fd: p.near, gen: 1, readable: true})
	p.nearReceives("onetwo")
	w.wantsNothing("all input is read")
}

func TestEndOfInputIsReportedOnce(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("last words")
	if err := ShutdownWrite(p.far); err != nil {
		t.Fatal(err)
	}
	w.wants("bytes and the end of the input are one event", seen{fd: p.near, gen: 1, readable: true, ended: true})
	p.nearReceives("last words")
	w.wantsNothing("the end is not reported again")
}

func TestResetIsReadableEndedAndWritable(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farResets()
	w.wants("a reset is reported for reading and for writing", seen{1, 1, true, true, true}.at(p.near))
}

func (s seen) at(fd int) seen { s.fd = fd; return s }

func TestModifyReportsWhatIsReady(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("hello")
	w.wants("input has arrived", seen{fd: p.near, gen: 1, readable: true})
	w.modifies(p.near, 2, ReadWrite)
	w.wants("the input is reported again, and room to write as well", seen{fd: p.near, gen: 2, readable: true, writable: true})
	w.wantsNothing("both were reported")
}

func TestRoomToWriteIsReportedAfterAPartialSend(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, ReadWrite)
	w.wants("there is room at first", seen{fd: p.near, gen: 1, writable: true})
	sent := p.nearFills()
	w.wantsNothing("there is no room")
	if Writable(p.near) {
		t.Error("Writable: got true without room, want false")
	}
	p.farReceives(sent)
	w.wants("the peer has read everything", seen{fd: p.near, gen: 1, writable: true})
	if !Writable(p.near) {
		t.Error("Writable: got false with room, want true")
	}
}

func TestRemoveStopsEvents(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("hello")
	w.removes(p.near)
	w.wantsNothing("the descriptor is not registered any more")
	if err := w.Remove(p.near); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Remove after Remove: got %v, want ENOENT", err)
	}
	if err := w.Modify(p.near, 1, Read); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Modify after Remove: got %v, want ENOENT", err)
	}
}

func TestAddErrorNamesTheDescriptor(t *testing.T) {
	w := newWatcher(t)
	err := w.Add(1<<20, 1, Read)
	if !errors.Is(err, unix.EBADF) || err.Error() != "epoll_ctl add 1048576: bad file descriptor" {
		t.Errorf("Add of a bad descriptor: got %v, want EBADF with the descriptor", err)
	}
}

// An event carries the generation of the registration, whatever generations the same descriptor
// number had before.
func TestEventsCarryTheGenerationOfTheirRegistration(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	for _, gen := range []uint32{1, 2, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
		w.adds(p.near, gen, Read)
		p.farSends("x")
		w.wants("an event of this registration", seen{fd: p.near, gen: gen, readable: true})
		w.removes(p.near)
		p.nearReceives("x")
	}
}

func TestManyEventsComeInBatches(t *testing.T) {
	w := newWatcher(t)
	var want []int
	for range 10 {
		p := newPair(t)
		w.adds(p.near, 1, Read)
		p.farSends("x")
		want = append(want, p.near)
	}
	w.Wake()
	var got []int
	wakes := 0
	for events := make([]Event, 3); len(got) < len(want) || wakes == 0; {
		n, woken, err := w.Wait(events, testTimeout)
		if err != nil || n == 0 && !woken {
			t.Fatalf("got %d events, woken %v, error %v; so far %v of %v", n, woken, err, got, want)
		}
		if woken {
			wakes++
		}
		for i := range events[:n] {
			got = append(got, events[i].FD())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || wakes != 1 {
		t.Errorf("got events of %v and %d wakes, want %v and 1", got, wakes, want)
	}
}

func TestWakesMerge(t *testing.T) {
	w := newWatcher(t)
	events := make([]Event, 4)
	for round := range 3 {
		for range 5 {
			w.Wake()
		}
		n, woken, err := w.Wait(events, -1)
		if n != 0 || !woken || err != nil {
			t.Fatalf("round %d: got %d events, woken %v, error %v; want only a wake", round, n, woken, err)
		}
		w.wantsNothing("five wakes count as one")
	}
}

func TestWakeEndsAWaitThatBlocks(t *testing.T) {
	w := newWatcher(t)
	done := make(chan bool)
	go func() {
		_, woken, _ := w.Wait(make([]Event, 4), -1)
		done <- woken
	}()
	runtime.Gosched()
	w.Wake()
	if !<-done {
		t.Error("Wait returned woken false, want true")
	}
}

// Memory writes before a Wake are visible after the Wait that it ends, even if the Wake needed no
// system call because another one was pending. The race detector checks this: it does not see the
// synchronization of the two goroutines through the socket.
func TestMergedWakeMakesEarlierWritesVisible(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.Wake()
	var message string
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		message = "hello"
		w.Wake()
		p.farSends("!")
	})
	p.nearReceives("!")
	if _, woken, _ := w.Wait(make([]Event, 4), testTimeout); !woken {
		t.Fatal("Wait returned woken false, want true")
	}
	if message != "hello" {
		t.Errorf("got message %q, want %q", message, "hello")
	}
}

func TestNoWakeIsLost(t *testing.T) {
	const wakers, each = 8, 5000
	w := newWatcher(t)
	var (
		mu       sync.Mutex
		messages int
		waking   sync.WaitGroup
	)
	for range wakers {
		waking.Go(func() {
			for range each {
				mu.Lock()
				messages++
				mu.Unlock()
				w.Wake()
			}
		})
	}
	defer waking.Wait()
	events := make([]Event, 4)
	last := time.Now()
	for read := 0; read < wakers*each; {
		_, woken, err := w.Wait(events, testTimeout)
		if err != nil || !woken && time.Since(last) >= testTimeout { // Wait may return before its timeout without events
			t.Fatalf("after %d of %d messages: woken %v, error %v", read, wakers*each, woken, err)
		}
		if !woken {
			continue
		}
		last = time.Now()
		mu.Lock()
		read += messages
		messages = 0
		mu.Unlock()
	}
}

func TestTimeoutsAreRoundedUp(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want int
	}{
		{-1, -1},
		{math.MinInt64, -1},
		{0, 0},
		{1, 1},
		{time.Millisecond - 1, 1},
		{time.Millisecond, 1},
		{time.Millisecond + 1, 2},
		{time.Hour, 3600_000},
		{1000 * time.Hour, math.MaxInt32},
		{math.MaxInt64, math.MaxInt32},
	} {
		if got := milliseconds(c.d); got != c.want {
			t.Errorf("%d ns: got %d ms, want %d", c.d, got, c.want)
		}
	}
}

func TestWaitReturnsAfterItsTimeout(t *testing.T) {
	w := newWatcher(t)
	for _, timeout := range []time.Duration{0, 1, time.Millisecond} {
		began := time.Now()
		n, woken, err := w.Wait(make([]Event, 1), timeout)
		if n != 0 || woken || err != nil || time.Since(began) < timeout {
			t.Errorf("timeout %v: got %d events, woken %v, error %v after %v; want none after the timeout", timeout, n, woken, err, time.Since(began))
		}
	}
}

// After a Wait with events, the next one may return before its timeout, because the scheduler
// interrupts it, but not much later.
func TestWaitAfterEventsReturns(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	for _, timeout := range []time.Duration{0, time.Millisecond, shortWait * time.Millisecond, 2 * shortWait * time.Millisecond} {
		p.farSends("!")
		w.wants("input has arrived", seen{fd: p.near, gen: 1, readable: true})
		began := time.Now()
		n, woken, err := w.Wait(make([]Event, 1), timeout)
		if n != 0 || woken || err != nil || time.Since(began) > testTimeout {
			t.Errorf("timeout %v: got %d events, woken %v, error %v after %v; want none", timeout, n, woken, err, time.Since(began))
		}
	}
}

// The raw wait does not keep other goroutines from the only P (GOMAXPROCS is 1).
func TestOtherGoroutinesRunDuringARawWait(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 3 {
		p.farSends("!")
		w.wants("input has arrived", seen{fd: p.near, gen: 1, readable: true})
		go w.Wake()
		began, woken := time.Now(), false
		for !woken && time.Since(began) < testTimeout {
			_, woken, _ = w.Wait(make([]Event, 1), testTimeout)
		}
		if time.Since(began) >= testTimeout {
			t.Error("the goroutine that calls Wake has not run")
		}
	}
}

func TestWaitAfterCloseFails(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Wait(make([]Event, 1), 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("Wait after Close: got %v, want EBADF", err)
	}
}

func TestPollersShareAListener(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	a, b := newWatcher(t), newWatcher(t)
	a.adds(l.FD, 0, Accept)
	b.adds(l.FD, 0, Accept)
	if err := a.Modify(l.FD, 0, Accept); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Modify with interest Accept: got %v, want EINVAL", err)
	}

	dials(t, l)
	dials(t, l)
	for range 2 {
		a.wants("a connection is in the backlog", seen{fd: l.FD, readable: true})
	}
	for range 2 {
		b.wants("it is reported to every poller until it is accepted", seen{fd: l.FD, readable: true})
		accepts(t, l)
	}
	a.wantsNothing("the backlog is empty")
	b.wantsNothing("the backlog is empty")
	if fd, _, err := AcceptFrom(l.FD); fd != -1 || err != nil {
		t.Errorf("accepted %d, %v from an empty backlog, want -1 and no error", fd, err)
	}

	a.removes(l.FD)
	dials(t, l)
	b.wants("the other poller still watches the listener", seen{fd: l.FD, readable: true})
	a.wantsNothing("this poller does not")
}

// If two pollers block on a listener, every connection wakes at least one of them.
func TestPollersThatBlockShareAListener(t *testing.T) {
	const connections = 200
	l := listens(t, "127.0.0.1:0")
	accepted := make(chan int, connections)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for range 2 {
		w := newWatcher(t)
		w.adds(l.FD, 0, Accept)
		waiting.Go(func() {
			for events := make([]Event, 1); ; {
				n, woken, err := w.Wait(events, -1)
				if err != nil || woken {
					return
				}
				if n == 1 {
					if fd, _, _ := AcceptFrom(l.FD); fd >= 0 {
						accepted <- fd
					}
				}
			}
		})
		defer w.Wake()
	}
	for range connections {
		dials(t, l)
		Close(<-accepted)
	}
}

// A Wait with timeout 0 returns at once, even if the previous Wait had events.
func TestWaitWithZeroTimeoutReturnsAtOnce(t *testing.T) {
	w := newWatcher(t)
	p := newPair(t)
	w.adds(p.near, 1, Read)
	events := make([]Event, 8)
	var took []time.Duration
	for range 20 {
		p.farSends("x")
		for n := 0; n == 0; {
			var err error
			if n, _, err = w.Wait(events, testTimeout); err != nil {
				t.Fatal(err)
			}
		}
		from := time.Now()
		n, _, err := w.Wait(events, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			took = append(took, time.Since(from))
		}
		p.nearReceives("x")
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median >= shortWait*time.Millisecond/2 {
		t.Errorf("the median of %d waits with timeout 0 is %v, want less than half of shortWait", len(took), median)
	}
}
