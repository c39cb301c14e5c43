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
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
	"wsecho/internal/leak"
	"wsecho/internal/netpoll"
	"wsecho/internal/offheap"
)

// wantsBalanced checks that the workers' connection counts differ by at most one.
func (h *harness) wantsBalanced(why string) {
	h.t.Helper()
	var conns []int64
	for _, w := range h.workers {
		conns = append(conns, w.conns.load.Load())
	}
	if slices.Max(conns)-slices.Min(conns) > 1 {
		h.t.Errorf("%s: the workers have %v connections, want a difference of at most 1", why, conns)
	}
}

func TestConnectionsAreDistributedEvenly(t *testing.T) {
	for n := 1; n <= 4; n++ {
		h := newHarness(t, workers(n))
		var long, short []*peer
		for i := range 21 {
			long = append(long, h.dials())
			if i%7 == 0 { // some one by one, others several at once
				h.runsUntilIdle()
				h.wantsBalanced("after some have connected")
			}
		}
		h.runsUntilIdle()
		h.wantsBalanced("after all have connected")
		for range 50 {
			p := h.dials()
			h.runsUntilIdle()
			short = append(short, p)
			if len(short) > 5 {
				short[0].closes()
				short = short[1:]
				h.runsUntilIdle()
			}
		}
		// All closed connections may have belonged to one worker. New ones restore the balance.
		for range 10 {
			h.dials()
		}
		h.runsUntilIdle()
		h.wantsBalanced("with short-lived and long-lived connections")
		for _, p := range long {
			p.upgrades()
		}
	}
}

// A worker that accepts connections hands them to workers that have fewer, and otherwise keeps
// them.
func TestAcceptingWorkerDistributesConnections(t *testing.T) {
	h := newHarness(t, workers(3))
	for range 9 {
		h.dials()
	}
	if err := h.workers[1].pass(soon); err != nil {
		t.Fatal(err)
	}
	h.wantsBalanced("one worker has accepted all connections")
	h.until("the messages are read", func() bool {
		n := 0
		for _, w := range h.workers {
			w.conns.mine.each(func(int) { n++ })
		}
		return n == 9
	})
}

func TestAdopt(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := newHarness(t, workers(n))
		p := h.adopts(echo.State{}, nil)
		p.upgrades()
		p.wantsAlive("adopted, nothing was read")

		p = h.adopts(echo.State{}, []byte(request[:50]))
		p.sends([]byte(request[50:]))
		p.wantsUpgrade()
		p.wantsAlive("adopted, half a request was read")

		p = h.adopts(echo.State{}, append([]byte(request), masked(text("early"))...))
		p.wantsUpgrade()
		p.wantsEcho("adopted, a request and a frame were read", text("early"))

		p = h.adopts(echo.Upgraded(), nil)
		p.wantsAlive("adopted after the upgrade, nothing was read")

		p = h.adopts(echo.Upgraded(), append(masked(text("one"), text("two")), masked(text("three"))[:4]...))
		p.wantsEcho("echo of the complete messages", text("one"), text("two"))
		p.sends(masked(text("three"))[4:])
		p.wantsEcho("echo of the message that was read in part", text("three"))

		p = h.adopts(echo.Upgraded(), masked(closing(1000)))
		p.wantsEcho("reply to a close frame that was already read", closing(1000))
		p.wantsFIN("after the close reply")

		h.wantsCount("upgraded by the workers", h.count().Upgraded, 3)
		h.wantsBalanced("with adopted connections")
	}
}

func TestAdoptFromOtherGoroutines(t *testing.T) {
	h := newHarness(t, workers(2)).starts()
	var peers []*peer
	var adopting sync.WaitGroup
	for range 20 {
		p, fd := h.socketPair()
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
		p.wantsEcho("echo of what was already read", text("hello"))
		p.wantsAlive("after that")
	}
}

// wantsAdoptRefused checks that Adopt returns the error want, and that the connection still belongs
// to the caller.
func (h *harness) wantsAdoptRefused(why string, want error, read []byte) {
	h.t.Helper()
	p, fd := h.socketPair()
	if err := h.Adopt(fd, netip.AddrPort{}, echo.State{}, read, noGreeting); !errors.Is(err, want) {
		h.t.Errorf("%s: got error %v, want %v", why, err, want)
	}
	if _, err := netpoll.Send(fd, []byte("mine")); err != nil {
		h.t.Errorf("%s: %v", why, err)
	}
	p.wants(why, []byte("mine"))
	netpoll.Close(fd)
}

func TestAdoptRefuses(t *testing.T) {
	h := newHarness(t, maxConns(2), workers(2))
	for range 2 {
		h.connects()
	}
	h.wantsAdoptRefused("at the connection limit", ErrFull, nil)
	if h.Open() != 2 {
		t.Errorf("%d connections are open, want 2", h.Open())
	}
	p, fd := h.socketPair()
	if err := h.Adopt(fd, netip.AddrPort{}, echo.State{}, make([]byte, h.cfg.Echo.MaxFrame+1), noGreeting); err == nil {
		t.Error("Adopt accepted more bytes than a buffer holds, want an error")
	}
	netpoll.Close(fd)
	p.closes()
	if err := h.Adopt(h.cfg.MaxFDs, netip.AddrPort{}, echo.State{}, nil, noGreeting); !errors.Is(err, ErrFull) {
		t.Errorf("descriptor without a slot: got error %v, want ErrFull", err)
	}
	h.draining.Store(true)
	h.wantsAdoptRefused("while draining", ErrDraining, nil)
	h.draining.Store(false)
}

func TestAdoptAfterShutdown(t *testing.T) {
	h := newHarness(t).starts()
	h.Shutdown(soon)
	h.wantsAdoptRefused("after the workers have ended", ErrDraining, nil)
	h.draining.Store(false) // as if Adopt had checked it just before Shutdown
	h.wantsAdoptRefused("with closed mailboxes", ErrDraining, nil)
	if h.Open() != 0 {
		t.Errorf("%d connections are open, want 0", h.Open())
	}
	h.draining.Store(true)
}

// A connection over the limit gets 503, and does not affect the others.
func TestConnectionOverLimitGets503(t *testing.T) {
	for _, n := range []int{1, 2} {
		h := newHarness(t, maxConns(3), workers(n))
		var peers []*peer
		for range 3 {
			peers = append(peers, h.connects())
		}
		for range 5 {
			p := h.dials()
			p.wantsNothing("before its request")
			p.sends([]byte(request))
			p.wantsStatus("over the limit", 503)
			p.closes()
			for _, q := range peers {
				q.wantsAlive("within the limit")
			}
		}
		h.runsUntilIdle()
		peers[0].closes()
		h.runsUntilIdle()
		h.connects().wantsAlive("after another has ended")
		h.wantsCount("refused", h.count().RefusedFull, 5)
		h.wantsCount("refused with 503", h.count().Codes[503], 5)
		h.wantsCount("refused without a slot", h.count().RefusedAtOnce, 0)
	}
}

// A worker keeps at most maxSurplus connections that are only to be refused.
func TestSurplusConnectionsAreLimited(t *testing.T) {
	h := newHarness(t, maxConns(1))
	witness := h.connects()
	var peers []*peer
	for range maxSurplus + 5 {
		peers = append(peers, h.dials())
	}
	h.runsUntilIdle()
	h.wantsCount("refused without a slot", h.count().RefusedAtOnce, 5)
	witness.wantsAlive("while others wait to be refused")
	for _, p := range peers[:maxSurplus] {
		p.sends([]byte(request))
		p.wantsStatus("refused after its request", 503)
	}
	for _, p := range peers[maxSurplus:] {
		p.wantsStatus("refused at once", 503)
	}
}

func TestDescriptorWithoutSlotIsRefused(t *testing.T) {
	h := newHarness(t)
	cs := &h.workers[0].conns
	all := cs.slots
	defer func() { cs.slots = all }()
	cs.slots = cs.slots[:4]
	p := h.dials()
	p.wantsStatus("descriptor without a slot", 503)
	h.wantsCount("refused at once", h.count().RefusedAtOnce, 1)
	h.wantsCount("refused because of the limit", h.count().RefusedFull, 1)
}

// exhaustDescriptors opens descriptors until there are no more, and returns them.
func exhaustDescriptors(t *testing.T) []int {
	t.Helper()
	// The first formatted time of a process, such as that of a warning, opens /etc/localtime. It must
	// not do so while the only free descriptor is the reserve.
	t.Log("exhausting the descriptors at", time.Now())
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fds
		}
		fds = append(fds, fd)
	}
}

// When descriptors have run out, the worker accepts connections with the reserve, answers 503 and
// closes them. Afterwards it sleeps.
func TestRefusesWithReserveWhenDescriptorsRunOut(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	for _, n := range []int{1, 2} {
		h := newHarness(t, workers(n))
		witness := h.connects()
		var peers []*peer
		for range 3 {
			peers = append(peers, h.dials())
		}
		taken := exhaustDescriptors(t)
		for i, p := range peers {
			p.wantsStatus("without a descriptor", 503)
			witness.wantsAlive("while descriptors have run out")
			if h.reserve.fd == 0 {
				t.Errorf("after %d refusals the reserve is closed, want it open", i+1)
			}
		}
		h.runsUntilIdle()
		before := h.count()
		for range 20 {
			h.pass()
		}
		if after := h.count(); after.Events != before.Events || after.Exhausted != before.Exhausted {
			t.Errorf("got %d events and %d failed accepts in idle passes, want none",
				after.Events-before.Events, after.Exhausted-before.Exhausted)
		}
		h.wantsCount("refused", before.RefusedAtOnce, 3)
		if before.Exhausted == 0 {
			t.Error("Exhausted is 0, want the failed accepts counted")
		}
		for _, fd := range taken {
			netpoll.Close(fd)
		}
		h.connects().wantsAlive("with descriptors again")
		h.closes()
	}
}

// Without descriptors and without the reserve, the worker stops accepting for a while. When there
// are descriptors again, it restores the reserve first.
func TestAcceptPausesWhenReserveIsGone(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	h := newHarness(t, workers(2))
	witness := h.connects()
	waiting := []*peer{h.dials(), h.dials()}
	h.reserve.close()
	taken := exhaustDescriptors(t)
	h.runsUntilIdle()
	for i, w := range h.workers {
		if w.acceptor.watching {
			t.Errorf("worker %d watches its listeners, want a pause", i)
		}
	}
	witness.wantsAlive("while accepting is paused")
	for _, p := range waiting {
		p.wantsNothing("in the backlog")
	}
	h.advances(acceptPause)
	before := h.count().Exhausted
	h.runsUntilIdle()
	for range 20 {
		h.pass()
	}
	if after := h.count().Exhausted; after > before+2 {
		t.Errorf("got %d failed accepts in idle passes, want at most 2", after-before)
	}

	netpoll.Close(taken[0])
	h.advances(2 * acceptPause)
	for _, p := range waiting {
		p.wantsStatus("with one descriptor, which is the reserve", 503)
	}
	for _, fd := range taken[1:] {
		netpoll.Close(fd)
	}
	h.advances(2 * acceptPause)
	h.connects().wantsAlive("with descriptors again")
}

// If a worker cannot watch one of its listeners after a pause, it tries again later.
func TestWatchIsRetriedAfterFailure(t *testing.T) {
	h := newHarnessAt(t, []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")})
	w := h.workers[0]
	w.acceptor.ignore()
	right := h.listeners[1].FD
	h.listeners[1].FD = 1 << 20
	h.advances(acceptPause)
	if w.acceptor.watching {
		t.Error("watching is true with an invalid descriptor, want false")
	}
	h.listeners[1].FD = right
	h.advances(2 * acceptPause)
	h.connects().wantsAlive("through the first listener")
	h.dialsAt(1).upgrades().wantsAlive("through the second listener")
}

// TestMain checks that New leaves nothing open after an error.
func TestNewReleasesListenersOnError(t *testing.T) {
	h := newHarness(t)
	cfg := h.cfg
	if p, err := New(cfg, []netpoll.Listener{{FD: 1 << 20}}); err == nil {
		p.Close()
		t.Error("New accepted an invalid listener, want an error")
	}
	for _, size := range []int{0, 1000, 1024, 3 << 16} {
		cfg.BufferSize = size
		if p, err := New(cfg, nil); err == nil {
			p.Close()
			t.Errorf("New accepted a buffer of %d bytes, want an error", size)
		}
	}
}

// The slot of a surplus connection passes to the next owner of its descriptor without a data race:
// the kernel, which reuses the descriptor, does not synchronize the workers for the race detector.
func TestSlotOfRefusedConnectionIsReused(t *testing.T) {
	h := newHarness(t, workers(2), maxConns(1))
	h.connects()
	refused := h.dials()
	h.workers[1].acceptor.ignore()
	h.until("the first worker has accepted it", func() bool { return h.workers[0].conns.surplus == 1 })
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
		refused.readsSome()
	}
	if err := h.workers[1].pass(soon); err != nil {
		t.Error(err)
	}
	other.Wait()
	next.sends([]byte(request))
	next.wantsStatus("over the limit", 503)
}

// failsAccept makes accept4 fail with the given errors, one per call, on a listener. Later calls
// succeed.
func (h *harness) failsAccept(listener int, errs ...error) {
	h.Pool.accept = func(fd int) (int, netip.AddrPort, error) {
		if fd == h.listeners[listener].FD && len(errs) > 0 {
			err := errs[0]
			errs = errs[1:]
			return -1, netip.AddrPort{}, err
		}
		return netpoll.AcceptFrom(fd)
	}
}

// After an error of one connection in the backlog, the worker accepts the next one.
func TestErrorOfOneConnectionDoesNotPauseListener(t *testing.T) {
	logged := &logBuffer{}
	h := newHarness(t, func(cfg *Config) { cfg.Log = logged.log() })
	errs := []error{
		unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ETIMEDOUT, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH,
	}
	h.failsAccept(0, errs...)
	h.connects().wantsAlive("after errors of other connections")
	if w := h.workers[0]; !w.acceptor.watching {
		t.Error("the listener is paused, want it watched")
	}
	h.wantsCount("errors of accept4", h.count().AcceptErrors, uint64(len(errs)))
	waitFor(t, "a warning", func() bool {
		return strings.Contains(logged.read(), "level=WARN msg=\"accept4 failed\" count=")
	})
}

// An unknown accept4 error pauses the listener on which it occurred, and no other.
func TestUnknownAcceptErrorPausesListener(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EACCES, unix.ENOSR, unix.ESOCKTNOSUPPORT, unix.EPROTONOSUPPORT, unix.EINVAL, unix.ENOTSOCK, unix.EIO} {
		logged := &logBuffer{}
		h := newHarnessAt(t, []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")},
			workers(2), func(cfg *Config) { cfg.Log = logged.log() })
		witness := h.connects()
		h.failsAccept(0, errno, errno, errno)
		waiting := h.dials()
		waiting.sends([]byte(request))
		waiting.wantsNothing("while its listener is paused")
		before := h.count()
		for range 20 {
			h.pass()
		}
		if after := h.count(); after.AcceptErrors != before.AcceptErrors || after.Events != before.Events {
			t.Errorf("%v: got %d errors and %d events while the listener is paused, want none", errno,
				after.AcceptErrors-before.AcceptErrors, after.Events-before.Events)
		}
		witness.wantsAlive("while its listener is paused")
		h.dialsAt(1).upgrades().wantsAlive("through the other listener")
		for range 3 {
			h.advances(2 * acceptPause)
		}
		waiting.wantsUpgrade()
		waiting.wantsAlive("after it has waited in the backlog")
		h.wantsCount("errors of accept4", h.count().AcceptErrors, 3)
		waitFor(t, "a warning", func() bool { return strings.Contains(logged.read(), "err=\""+errno.Error()+"\"") })
	}
}

// An error of single connections pauses the listener, too, if a whole batch of accepts fails with
// it.
func TestRepeatedAcceptErrorPausesListener(t *testing.T) {
	h := newHarness(t)
	h.failsAccept(0, slices.Repeat([]error{unix.EPERM}, acceptBatch)...)
	waiting := h.dials()
	waiting.sends([]byte(request))
	waiting.wantsNothing("while its listener is paused")
	h.wantsCount("errors of accept4", h.count().AcceptErrors, acceptBatch)
	h.advances(2 * acceptPause)
	waiting.wantsUpgrade()
}

// Other accept4 errors are handled as usual while descriptors have run out.
func TestAcceptErrorsWhileDescriptorsAreExhausted(t *testing.T) {
	h := newHarness(t)
	h.failsAccept(0, netpoll.ErrExhausted, unix.ECONNABORTED)
	h.dials().wantsStatus("after an error of one connection", 503)
	h.failsAccept(0, netpoll.ErrExhausted, unix.EACCES)
	waiting := h.dials()
	waiting.sends([]byte(request))
	waiting.wantsNothing("while its listener is paused")
	h.advances(2 * acceptPause)
	waiting.wantsUpgrade()
	h.wantsCount("errors of accept4", h.count().AcceptErrors, 2)
	h.wantsCount("times exhausted", h.count().Exhausted, 2)
}

// New unmaps and closes everything on error, whichever step fails.
func TestNewReleasesEverythingOnError(t *testing.T) {
	if !leak.Alone(t, 100) {
		return
	}
	h := newHarness(t)
	cfg := h.cfg
	if offheap.Mapped {
		cfg.MaxFDs = 1 << 26 // 16 MiB of address space for each worker
	}
	taken := exhaustDescriptors(t)
	defer func() {
		for _, fd := range taken {
			netpoll.Close(fd)
		}
	}()
	// The number of free descriptors determines which call fails: the eventfd of the reserve,
	// epoll_create1, the eventfd of a worker, or epoll_ctl.
	for free := range 4 {
		before := mappings(t)
		for range 20 {
			p, err := New(cfg, []netpoll.Listener{{FD: 1 << 20}})
			if err == nil {
				p.Close()
				t.Fatalf("New succeeded with %d free descriptors, want an error", free)
			}
			if free == 0 && !strings.Contains(err.Error(), "reserve descriptor: ") || free > 0 && !strings.Contains(err.Error(), "worker: ") {
				t.Errorf("with %d free descriptors: got error %v", free, err)
			}
		}
		netpoll.Close(taken[0]) // for the next round, and for mappings
		taken = taken[1:]
		if after := mappings(t); after > before+160<<20 {
			t.Errorf("with %d free descriptors: %d KiB of address space are still mapped", free, (after-before)>>10)
		}
	}
}

// mappings returns the size in bytes of the process's address space.
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

func TestNewFailsWithoutAddressSpace(t *testing.T) {
	if !offheap.Mapped {
		t.Skip("under the race detector slots are on the heap")
	}
	h := newHarness(t)
	cfg := h.cfg
	cfg.MaxFDs = 1 << 50
	p, err := New(cfg, nil)
	if err == nil {
		p.Close()
		t.Fatal("New mapped 2^56 bytes, want an error")
	}
	if !strings.HasPrefix(err.Error(), "slots: ") {
		t.Errorf("got error %v, want one of the slots", err)
	}
}
