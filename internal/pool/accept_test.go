package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/leak"
	"wsecho/internal/netpoll"
	"wsecho/internal/offheap"
)

// wantsEven checks that no worker has more than one connection more than
// another.
func (h *house) wantsEven(why string) {
	h.t.Helper()
	var conns []int64
	for _, w := range h.workers {
		conns = append(conns, w.conns.load.Load())
	}
	if slices.Max(conns)-slices.Min(conns) > 1 {
		h.t.Errorf("%s: the workers have %v connections", why, conns)
	}
}

func TestConnectionsAreSharedOutEvenly(t *testing.T) {
	for n := 1; n <= 4; n++ {
		h := opens(t, workers(n))
		var long, short []*peer
		for i := range 21 {
			long = append(long, h.dials())
			if i%7 == 0 { // one by one, and several at once
				h.settles()
				h.wantsEven("as they come")
			}
		}
		h.settles()
		h.wantsEven("all that have come")
		for range 50 {
			p := h.dials()
			h.settles()
			short = append(short, p)
			if len(short) > 5 {
				short[0].closes()
				short = short[1:]
				h.settles()
			}
		}
		// Those that leave may all have been one worker's. Whoever comes next evens it out.
		for range 10 {
			h.dials()
		}
		h.settles()
		h.wantsEven("with short ones beside long ones")
		for _, p := range long {
			p.upgrades()
		}
	}
}

// The worker that accepts gives away what others have fewer of, and keeps what
// it need not give away.
func TestOneWorkerAcceptsForAll(t *testing.T) {
	h := opens(t, workers(3))
	for range 9 {
		h.dials()
	}
	if err := h.workers[1].pass(soon); err != nil {
		t.Fatal(err)
	}
	h.wantsEven("one worker has accepted all")
	h.until("the letters are read", func() bool {
		n := 0
		for _, w := range h.workers {
			w.conns.mine.each(func(int) { n++ })
		}
		return n == 9
	})
}

func TestAdopt(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := opens(t, workers(n))
		p := h.adopts(echo.State{}, nil)
		p.upgrades()
		p.alive("nothing was read")

		p = h.adopts(echo.State{}, []byte(request[:50]))
		p.sends([]byte(request[50:]))
		p.wantsUpgrade()
		p.alive("half a request was read")

		p = h.adopts(echo.State{}, append([]byte(request), masked(text("early"))...))
		p.wantsUpgrade()
		p.wantsEcho("what followed the request was read too", text("early"))

		p = h.adopts(echo.Upgraded(), nil)
		p.alive("it was upgraded, and nothing was read")

		p = h.adopts(echo.Upgraded(), append(masked(text("one"), text("two")), masked(text("three"))[:4]...))
		p.wantsEcho("what was whole", text("one"), text("two"))
		p.sends(masked(text("three"))[4:])
		p.wantsEcho("what was not", text("three"))

		p = h.adopts(echo.Upgraded(), masked(closing(1000)))
		p.wantsEcho("it had been closed", closing(1000))
		p.wantsFIN("we end")

		h.wantsCount("upgraded here", h.count().Upgraded, 3)
		h.wantsEven("adopted ones, too")
	}
}

func TestAdoptFromOtherGoroutines(t *testing.T) {
	h := opens(t, workers(2)).starts()
	var peers []*peer
	var adopting sync.WaitGroup
	for range 20 {
		p, fd := h.stranger()
		peers = append(peers, p)
		adopting.Go(func() {
			if err := h.Adopt(fd, netip.AddrPort{}, echo.Upgraded(), masked(text("hello")), noGreeting); err != nil {
				t.Error("adopt:", err)
			}
		})
	}
	adopting.Wait()
	h.adopted += len(peers)
	for _, p := range peers {
		p.wantsEcho("what was read", text("hello"))
		p.alive("and more")
	}
}

// refuses checks that the pool does not adopt a connection, and that it is its
// giver's after that.
func (h *house) refuses(why string, want error, read []byte) {
	h.t.Helper()
	p, fd := h.stranger()
	if err := h.Adopt(fd, netip.AddrPort{}, echo.State{}, read, noGreeting); !errors.Is(err, want) {
		h.t.Errorf("%s: %v, want %v", why, err, want)
	}
	if _, err := netpoll.Send(fd, []byte("mine")); err != nil {
		h.t.Errorf("%s: %v", why, err)
	}
	p.wants(why, []byte("mine"))
	netpoll.Close(fd)
}

func TestAdoptRefuses(t *testing.T) {
	h := opens(t, maxConns(2), workers(2))
	for range 2 {
		h.connects()
	}
	h.refuses("over the limit", ErrFull, nil)
	if h.Open() != 2 {
		t.Errorf("%d are open, want 2", h.Open())
	}
	p, fd := h.stranger()
	if err := h.Adopt(fd, netip.AddrPort{}, echo.State{}, make([]byte, h.cfg.Echo.MaxFrame+1), noGreeting); err == nil {
		t.Error("more was read than a buffer holds, and it was adopted")
	}
	netpoll.Close(fd)
	p.closes()
	if err := h.Adopt(h.cfg.MaxFDs, netip.AddrPort{}, echo.State{}, nil, noGreeting); !errors.Is(err, ErrFull) {
		t.Errorf("a descriptor above all slots: %v", err)
	}
	h.draining.Store(true)
	h.refuses("draining", ErrDraining, nil)
	h.draining.Store(false)
}

func TestAdoptAfterTheEnd(t *testing.T) {
	h := opens(t).starts()
	h.Shutdown(soon)
	h.refuses("the workers have ended", ErrDraining, nil)
	h.draining.Store(false) // as if it had been asked just before
	h.refuses("nobody reads its letters", ErrDraining, nil)
	if h.Open() != 0 {
		t.Errorf("%d are open", h.Open())
	}
	h.draining.Store(true)
}

// One too many gets 503, and costs nobody else anything.
func TestOneTooMany(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := opens(t, maxConns(3), workers(n))
		var peers []*peer
		for range 3 {
			peers = append(peers, h.connects())
		}
		for range 5 {
			p := h.dials()
			p.wantsNothing("it has not begun its request")
			p.sends([]byte(request))
			p.wantsStatus("one too many", 503)
			p.closes()
			for _, q := range peers {
				q.alive("those that are in")
			}
		}
		h.settles()
		peers[0].closes()
		h.settles()
		h.connects().alive("there is room again")
		h.wantsCount("refused", h.count().RefusedFull, 5)
		h.wantsCount("refused with 503", h.count().Codes[503], 5)
		h.wantsCount("refused without a slot", h.count().RefusedAtOnce, 0)
	}
}

// Of those that are only to be refused, a worker has so many and no more.
func TestManyTooMany(t *testing.T) {
	h := opens(t, maxConns(1))
	witness := h.connects()
	var peers []*peer
	for range maxSurplus + 5 {
		peers = append(peers, h.dials())
	}
	h.settles()
	h.wantsCount("refused without a slot", h.count().RefusedAtOnce, 5)
	witness.alive("many wait to be refused")
	for _, p := range peers[:maxSurplus] {
		p.sends([]byte(request))
		p.wantsStatus("it waited", 503)
	}
	for _, p := range peers[maxSurplus:] {
		p.wantsStatus("it was refused at once", 503)
	}
}

// A descriptor for which there is no slot is refused.
func TestDescriptorWithoutASlot(t *testing.T) {
	h := opens(t)
	cs := &h.workers[0].conns
	all := cs.slots
	defer func() { cs.slots = all }()
	cs.slots = cs.slots[:4]
	p := h.dials()
	p.wantsStatus("no slot", 503)
	h.wantsCount("refused at once", h.count().RefusedAtOnce, 1)
	h.wantsCount("refused because the server is full", h.count().RefusedFull, 1)
}

// fills takes all descriptors that there are, and says how to give them back.
func fills(t *testing.T) []int {
	t.Helper()
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fds
		}
		fds = append(fds, fd)
	}
}

// Without descriptors, a connection is accepted with the reserve, told so, and
// closed; and the worker rests.
func TestDescriptorsRunOut(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	for _, n := range []int{1, 2} {
		h := opens(t, workers(n))
		witness := h.connects()
		var peers []*peer
		for range 3 {
			peers = append(peers, h.dials())
		}
		taken := fills(t)
		for i, p := range peers {
			p.wantsStatus("there is no descriptor for it", 503)
			witness.alive("others are not stalled")
			if h.reserve.fd == 0 {
				t.Errorf("after %d the reserve is gone", i+1)
			}
		}
		h.settles()
		before := h.count()
		for range 20 {
			h.pass()
		}
		if after := h.count(); after.Events != before.Events || after.Exhausted != before.Exhausted {
			t.Errorf("%d events and %d times exhausted in passes without anything to do",
				after.Events-before.Events, after.Exhausted-before.Exhausted)
		}
		h.wantsCount("refused", before.RefusedAtOnce, 3)
		if before.Exhausted == 0 {
			t.Error("that descriptors had run out is not counted")
		}
		for _, fd := range taken {
			netpoll.Close(fd)
		}
		h.connects().alive("there are descriptors again")
		h.closes()
	}
}

// With the reserve gone as well, the worker does not listen for a while; and
// the reserve comes first when there are descriptors again.
func TestReserveIsGone(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	h := opens(t, workers(2))
	witness := h.connects()
	waiting := []*peer{h.dials(), h.dials()}
	h.reserve.close()
	taken := fills(t)
	h.settles()
	for i, w := range h.workers {
		if w.acceptor.watching {
			t.Errorf("worker %d listens", i)
		}
	}
	witness.alive("others are not stalled")
	for _, p := range waiting {
		p.wantsNothing("it waits in the backlog")
	}
	h.later(acceptPause)
	before := h.count().Exhausted
	h.settles()
	for range 20 {
		h.pass()
	}
	if after := h.count().Exhausted; after > before+2 {
		t.Errorf("%d times exhausted in passes without anything to do", after-before)
	}

	netpoll.Close(taken[0])
	h.later(2 * acceptPause)
	for _, p := range waiting {
		p.wantsStatus("there is one descriptor: the reserve", 503)
	}
	for _, fd := range taken[1:] {
		netpoll.Close(fd)
	}
	h.later(2 * acceptPause)
	h.connects().alive("there are descriptors again")
}

// A worker that cannot watch all listeners again watches none, and tries
// later.
func TestListenAgainFails(t *testing.T) {
	h := opensAt(t, []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")})
	w := h.workers[0]
	w.acceptor.ignore()
	right := h.listeners[1].FD
	h.listeners[1].FD = 1 << 20
	h.later(acceptPause)
	if w.acceptor.watching {
		t.Error("it listens at what is no descriptor")
	}
	h.listeners[1].FD = right
	h.later(2 * acceptPause)
	h.connects().alive("it listens again")
	h.dialsAt(1).upgrades().alive("at both")
}

// A pool that cannot be made leaves nothing open: TestMain counts.
func TestNewFails(t *testing.T) {
	h := opens(t)
	cfg := h.cfg
	if p, err := New(cfg, []netpoll.Listener{{FD: 1 << 20}}); err == nil {
		p.Close()
		t.Error("it listens at what is no descriptor")
	}
	for _, size := range []int{0, 1000, 1024, 3 << 16} {
		cfg.BufferSize = size
		if p, err := New(cfg, nil); err == nil {
			p.Close()
			t.Errorf("a buffer of %d bytes", size)
		}
	}
}

// A connection that is only refused hands its slot on like any other. The
// race detector is the judge: that the descriptor is free is learned from the
// kernel.
func TestSlotOfARefusedConnectionIsHandedOn(t *testing.T) {
	h := opens(t, workers(2), maxConns(1))
	h.connects()
	refused := h.dials()
	h.workers[1].acceptor.ignore()
	h.until("it is there", func() bool { return h.workers[0].conns.surplus == 1 })
	h.workers[0].acceptor.ignore()
	if err := h.workers[1].acceptor.watch(); err != nil {
		t.Fatal(err)
	}
	next := h.dials()
	var other sync.WaitGroup
	other.Go(func() {
		for h.workers[0].conns.surplus > 0 {
			if err := h.workers[0].pass(0); err != nil {
				t.Error(err)
				return
			}
		}
	})
	refused.ends()
	for refused.end == nil {
		refused.sips()
	}
	if err := h.workers[1].pass(soon); err != nil {
		t.Error(err)
	}
	other.Wait()
	next.sends([]byte(request))
	next.wantsStatus("one too many as well", 503)
}

// failsToAccept makes accept4 fail with these errors, one after the other, at a listener; then it works again.
func (h *house) failsToAccept(listener int, errs ...error) {
	h.Pool.accept = func(fd int) (int, netip.AddrPort, error) {
		if fd == h.listeners[listener].FD && len(errs) > 0 {
			err := errs[0]
			errs = errs[1:]
			return -1, netip.AddrPort{}, err
		}
		return netpoll.AcceptFrom(fd)
	}
}

// An error of a connection in the backlog is no reason not to accept the next one.
func TestErrorsOfConnectionsInTheBacklog(t *testing.T) {
	book := &logbook{}
	h := opens(t, func(cfg *Config) { cfg.Log = book.log() })
	errs := []error{
		unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ETIMEDOUT, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH,
	}
	h.failsToAccept(0, errs...)
	h.connects().alive("the errors were others'")
	if w := h.workers[0]; !w.acceptor.watching {
		t.Error("the worker does not listen")
	}
	h.wantsCount("errors of accept4", h.count().AcceptErrors, uint64(len(errs)))
	waitFor(t, "a warning", func() bool {
		return strings.Contains(book.read(), "level=WARN msg=\"connections could not be accepted\" count=")
	})
}

// An error that is not known pauses the listener that it comes from, and no other.
func TestUnknownErrorsOfAccept(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EACCES, unix.ENOSR, unix.ESOCKTNOSUPPORT, unix.EPROTONOSUPPORT, unix.EINVAL, unix.ENOTSOCK, unix.EIO} {
		book := &logbook{}
		h := opensAt(t, []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")},
			workers(2), func(cfg *Config) { cfg.Log = book.log() })
		witness := h.connects()
		h.failsToAccept(0, errno, errno, errno)
		waiting := h.dials()
		waiting.sends([]byte(request))
		waiting.wantsNothing("its listener is left alone")
		before := h.count()
		for range 20 {
			h.pass()
		}
		if after := h.count(); after.AcceptErrors != before.AcceptErrors || after.Events != before.Events {
			t.Errorf("%v: %d errors and %d events while the listener is left alone", errno,
				after.AcceptErrors-before.AcceptErrors, after.Events-before.Events)
		}
		witness.alive("connections are not affected")
		h.dialsAt(1).upgrades().alive("nor is the other listener")
		for range 3 {
			h.later(2 * acceptPause)
		}
		waiting.wantsUpgrade()
		waiting.alive("it has waited in the backlog")
		h.wantsCount("errors of accept4", h.count().AcceptErrors, 3)
		waitFor(t, "a warning", func() bool { return strings.Contains(book.read(), "err=\""+errno.Error()+"\"") })
	}
}

// An error that should be about single connections and does not end pauses the listener as well.
func TestErrorsOfAcceptThatDoNotEnd(t *testing.T) {
	h := opens(t)
	h.failsToAccept(0, slices.Repeat([]error{unix.EPERM}, acceptBatch)...)
	waiting := h.dials()
	waiting.sends([]byte(request))
	waiting.wantsNothing("its listener is left alone")
	h.wantsCount("errors of accept4", h.count().AcceptErrors, acceptBatch)
	h.later(2 * acceptPause)
	waiting.wantsUpgrade()
}

// While descriptors have run out, other errors are no more than they are otherwise.
func TestErrorsOfAcceptWithoutDescriptors(t *testing.T) {
	h := opens(t)
	h.failsToAccept(0, netpoll.ErrExhausted, unix.ECONNABORTED)
	h.dials().wantsStatus("accepted with the reserve", 503)
	h.failsToAccept(0, netpoll.ErrExhausted, unix.EACCES)
	waiting := h.dials()
	waiting.sends([]byte(request))
	waiting.wantsNothing("the listener is left alone")
	h.later(2 * acceptPause)
	waiting.wantsUpgrade()
	h.wantsCount("errors of accept4", h.count().AcceptErrors, 2)
	h.wantsCount("times exhausted", h.count().Exhausted, 2)
}

// A pool that cannot be made gives back what it has offheap.Mapped and opened, whichever step fails.
func TestNewGivesBackWhatItHas(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	h := opens(t)
	cfg := h.cfg
	if offheap.Mapped {
		cfg.MaxFDs = 1 << 26 // 16 MiB of address space for each worker
	}
	taken := fills(t)
	defer func() {
		for _, fd := range taken {
			netpoll.Close(fd)
		}
	}()
	// With so many descriptors free, the reserve descriptor fails, then epoll_create1, eventfd, and epoll_ctl.
	for free := range 4 {
		before := mappings(t)
		for range 20 {
			p, err := New(cfg, []netpoll.Listener{{FD: 1 << 20}})
			if err == nil {
				p.Close()
				t.Fatalf("%d descriptors are enough", free)
			}
			if free == 0 && !strings.Contains(err.Error(), "reserve descriptor: ") || free > 0 && !strings.Contains(err.Error(), "worker: ") {
				t.Errorf("with %d descriptors: %v", free, err)
			}
		}
		netpoll.Close(taken[0]) // for the next round, and to count mappings
		taken = taken[1:]
		if after := mappings(t); after > before+160<<20 {
			t.Errorf("with %d descriptors: %d KiB of address space are lost", free, (after-before)>>10)
		}
	}
}

// mappings is the size of the process's address space.
func mappings(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/proc/self/statm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1 << 62 // there is no descriptor for it
	}
	defer unix.Close(fd)
	var text [100]byte
	n, err := unix.Read(fd, text[:])
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	if _, err := fmt.Sscan(string(text[:n]), &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// leavesAddressSpace maps all of the process's address space, but for one range of size bytes and
// ranges that are shorter than 64 GiB. The runtime may take a little of that one range.
func leavesAddressSpace(t *testing.T, size int) {
	t.Helper()
	if !offheap.Mapped {
		t.Skip("under the race detector slots are on the heap")
	}
	reserve := func(n int) (unmap func(), err error) {
		mem, err := unix.Mmap(-1, 0, n, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
		return func() {
			if err := unix.Munmap(mem); err != nil {
				t.Error(err)
			}
		}, err
	}
	leave, err := reserve(size)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	for n := 1 << 60; n >= 1<<36; n /= 2 {
		for unmap, err := reserve(n); err == nil; unmap, err = reserve(n) {
			t.Cleanup(unmap)
		}
	}
}

// The address space for the slots may be refused, or that for the marks.
func TestNewWithoutAddressSpace(t *testing.T) {
	h := opens(t)
	cfg := h.cfg
	const size = 1 << 40
	leavesAddressSpace(t, size)
	for fds, want := range map[int]string{2 * size / 64: "slots: ", size * 3 / 4 / 64: "marks: "} {
		cfg.MaxFDs = fds
		p, err := New(cfg, nil)
		if err == nil {
			p.Close()
			t.Fatalf("%d descriptors: there was room for everything", fds)
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%d descriptors: %v, want %s", fds, err, want)
		}
	}
}

// So may that for a worker's sets.
func TestSetsWithoutAddressSpace(t *testing.T) {
	const size = 1 << 40
	leavesAddressSpace(t, size)
	for fds, wantsFirst := range map[int]bool{2 * 8 * size: false, 8 * size * 3 / 4: true} {
		cs := &conns{}
		err := cs.open(fds)
		if err == nil || (cs.mine != nil) != wantsFirst {
			t.Errorf("%d descriptors: the first set is mapped: %t, want %t; %v", fds, cs.mine != nil, wantsFirst, err)
		}
		cs.close()
	}
}
