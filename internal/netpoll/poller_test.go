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

// soon is longer than anything here takes that happens at all.
const testTimeout = 10 * time.Second

// watcher is a poller in a test.
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

// seen is what an event says.
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
		w.t.Fatalf("%s: %d events", why, n)
	}
	e := &events[0]
	if got := (seen{e.FD(), e.Gen(), e.Readable(), e.Ended(), e.Writable()}); got != want {
		w.t.Fatalf("%s: event %+v, want %+v", why, got, want)
	}
}

func (w watcher) wantsNothing(why string) {
	w.t.Helper()
	events := make([]Event, 4)
	n, woken, err := w.Wait(events, 0)
	if n != 0 || woken || err != nil {
		w.t.Fatalf("%s: %d events, woken: %v, error: %v", why, n, woken, err)
	}
}

func TestAddReportsPendingInput(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 7, Read)
	w.wantsNothing("nothing has arrived")
	p.farSends("hello")
	w.wants("something has arrived", seen{fd: p.near, gen: 7, readable: true})

	v := newWatcher(t)
	v.adds(p.near, 8, Read)
	v.wants("what had arrived before is new to this poller", seen{fd: p.near, gen: 8, readable: true})
}

func TestReadIsEdgeTriggered(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("one")
	w.wants("something has arrived", seen{fd: p.near, gen: 1, readable: true})
	w.wantsNothing("what was left unread is not reported again")
	p.farSends("two")
	w.wants("more has arrived behind what was left unread", seen{fd: p.near, gen: 1, readable: true})
	p.nearReceives("onetwo")
	w.wantsNothing("there is nothing to read")
}

func TestEndOfInputIsReportedOnce(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("last words")
	if err := ShutdownWrite(p.far); err != nil {
		t.Fatal(err)
	}
	w.wants("bytes and the end behind them are one event", seen{fd: p.near, gen: 1, readable: true, ended: true})
	p.nearReceives("last words")
	w.wantsNothing("the end is not reported again")
}

func TestResetIsReadableEndedAndWritable(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farResets()
	w.wants("a reset is an end, and lets nobody wait for room", seen{1, 1, true, true, true}.at(p.near))
}

func (s seen) at(fd int) seen { s.fd = fd; return s }

func TestModifyReportsWhatIsReady(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("hello")
	w.wants("something has arrived", seen{fd: p.near, gen: 1, readable: true})
	w.modifies(p.near, 2, ReadWrite)
	w.wants("it is reported again, and so is the room to write", seen{fd: p.near, gen: 2, readable: true, writable: true})
	w.wantsNothing("both were reported")
}

func TestRoomToWriteIsReportedAfterAPartialSend(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, ReadWrite)
	w.wants("there is room at first", seen{fd: p.near, gen: 1, writable: true})
	sent := p.nearFills()
	w.wantsNothing("there is no room")
	if Writable(p.near) {
		t.Error("Writable says that there is room")
	}
	p.farReceives(sent)
	w.wants("the peer has read everything", seen{fd: p.near, gen: 1, writable: true})
	if !Writable(p.near) {
		t.Error("Writable says that there is no room")
	}
}

func TestRemoveStopsEvents(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	p.farSends("hello")
	w.removes(p.near)
	w.wantsNothing("nobody watches")
	if err := w.Remove(p.near); !errors.Is(err, unix.ENOENT) {
		t.Errorf("removed twice: %v", err)
	}
	if err := w.Modify(p.near, 1, Read); !errors.Is(err, unix.ENOENT) {
		t.Errorf("modified after it was removed: %v", err)
	}
}

func TestAddErrorNamesTheDescriptor(t *testing.T) {
	w := newWatcher(t)
	err := w.Add(1<<20, 1, Read)
	if !errors.Is(err, unix.EBADF) || err.Error() != "epoll_ctl add 1048576: bad file descriptor" {
		t.Errorf("add of what is no descriptor: %v", err)
	}
}

// The generation of an event is that of the registration, whatever has been
// registered under the same number since.
func TestEventsCarryTheGenerationOfTheirRegistration(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	for _, gen := range []uint32{1, 2, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
		w.adds(p.near, gen, Read)
		p.farSends("x")
		w.wants("an event of this life", seen{fd: p.near, gen: gen, readable: true})
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
			t.Fatalf("%d events, woken: %v, error: %v; so far %v of %v", n, woken, err, got, want)
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
		t.Errorf("events of %v and %d wakes, want %v and one", got, wakes, want)
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
			t.Fatalf("round %d: %d events, woken: %v, error: %v", round, n, woken, err)
		}
		w.wantsNothing("five wakes are one")
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
		t.Error("Wait returned without having been woken")
	}
}

// What was done before a Wake is seen after the Wait that it ends, even if the
// wake itself was one too many to be sent. The race detector is the judge: that
// the other goroutine has got so far is learned through the kernel, of
// which it knows nothing.
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
		t.Fatal("not woken")
	}
	if message != "hello" {
		t.Errorf("message is %q", message)
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
		if err != nil || !woken && time.Since(last) >= testTimeout { // it may return before, with nothing
			t.Fatalf("after %d of %d letters: woken: %v, error: %v", read, wakers*each, woken, err)
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
			t.Errorf("%d ns are %d ms, want %d", c.d, got, c.want)
		}
	}
}

func TestWaitReturnsAfterItsTimeout(t *testing.T) {
	w := newWatcher(t)
	for _, timeout := range []time.Duration{0, 1, time.Millisecond} {
		began := time.Now()
		n, woken, err := w.Wait(make([]Event, 1), timeout)
		if n != 0 || woken || err != nil || time.Since(began) < timeout {
			t.Errorf("%v: %d events, woken: %v, error: %v, after %v", timeout, n, woken, err, time.Since(began))
		}
	}
}

// While events come it may return earlier, when the scheduler wants the processor, but not much later.
func TestWaitAfterEventsReturns(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	for _, timeout := range []time.Duration{0, time.Millisecond, shortWait * time.Millisecond, 2 * shortWait * time.Millisecond} {
		p.farSends("!")
		w.wants("something has arrived", seen{fd: p.near, gen: 1, readable: true})
		began := time.Now()
		n, woken, err := w.Wait(make([]Event, 1), timeout)
		if n != 0 || woken || err != nil || time.Since(began) > testTimeout {
			t.Errorf("%v: %d events, woken: %v, error: %v, after %v", timeout, n, woken, err, time.Since(began))
		}
	}
}

// A poller that waits by itself does not keep the only processor to itself.
func TestOtherGoroutinesRunDuringARawWait(t *testing.T) {
	w, p := newWatcher(t), newPair(t)
	w.adds(p.near, 1, Read)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 3 {
		p.farSends("!")
		w.wants("something has arrived", seen{fd: p.near, gen: 1, readable: true})
		go w.Wake()
		began, woken := time.Now(), false
		for !woken && time.Since(began) < testTimeout {
			_, woken, _ = w.Wait(make([]Event, 1), testTimeout)
		}
		if time.Since(began) >= testTimeout {
			t.Error("nobody came to wake it")
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
		t.Errorf("wait after close: %v", err)
	}
}

func TestPollersShareAListener(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	a, b := newWatcher(t), newWatcher(t)
	a.adds(l.FD, 0, Accept)
	b.adds(l.FD, 0, Accept)
	if err := a.Modify(l.FD, 0, Accept); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the watch is not exclusive: modified with %v", err)
	}

	dials(t, l)
	dials(t, l)
	for range 2 {
		a.wants("what is in the backlog is told", seen{fd: l.FD, readable: true})
	}
	for range 2 {
		b.wants("to everyone who asks, until somebody takes it", seen{fd: l.FD, readable: true})
		accepts(t, l)
	}
	a.wantsNothing("it has been taken")
	b.wantsNothing("it has been taken")
	if fd, _, err := AcceptFrom(l.FD); fd != -1 || err != nil {
		t.Errorf("accepted %d from an empty backlog, error: %v", fd, err)
	}

	a.removes(l.FD)
	dials(t, l)
	b.wants("the other watches on", seen{fd: l.FD, readable: true})
	a.wantsNothing("this one does not")
}

// Of two pollers that block, whichever wakes, none of many connections is left
// in the backlog.
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

// A wait without patience returns at once, even where the wait before had events.
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
		t.Errorf("the median of %d waits without patience is %v", len(took), median)
	}
}
