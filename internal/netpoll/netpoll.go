// Package netpoll contains an epoll poller for Linux, and the non-blocking system calls on the
// sockets that it watches. It does not interpret the bytes that the sockets carry.
//
// # The poller's contract
//
// A [Poller] belongs to one goroutine, its owner. Other goroutines may only call Wake.
//
//   - Add(fd, gen, interest) registers a descriptor, which must be non-blocking. The caller keeps
//     the ownership of fd. Events carry fd and the generation gen. With gen the owner recognizes a
//     stale event: one of a descriptor that it has closed, whose number the kernel has given to a
//     new one.
//   - Modify(fd, gen, interest) replaces the interest and the generation of a descriptor. If the
//     descriptor is ready, the next Wait reports that, even if an earlier Wait has reported it.
//   - Remove(fd) unregisters a descriptor. Call it before close(2): epoll watches the open file
//     description, which outlives the descriptor if a duplicate exists.
//   - Wait(events, timeout) waits for events and reports whether Wake was called. The slice must not
//     be empty. Wait may return without events before the timeout. After a wait that found events,
//     it does not tell Go's scheduler about the first milliseconds: see shortWait.
//   - Wake() makes the current or the next Wait return. Several calls may count as one. Memory
//     writes before Wake are visible after that Wait.
//   - Close() closes the poller. No goroutine may call Wake afterwards.
//
// [Read] and [ReadWrite] are edge-triggered: an event reports that input has arrived since the last
// event, and is not repeated for input that the owner leaves unread. An owner that stops reading
// early must therefore remember to read again. In the same way, after a Send that sent only a part,
// an event reports that the socket has room again.
//
// No function of this package returns EINTR or EAGAIN.
//
// System calls that cannot block bypass Go's scheduler, whose bookkeeping is a good part of the
// cost of a small message. Only long waits use the scheduler's ordinary path.
package netpoll

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Interest is the set of epoll events that a descriptor is watched for.
type Interest uint32

const (
	// Read watches for input and for the end of the input, edge-triggered.
	Read Interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

	// ReadWrite watches for room to write as well.
	ReadWrite = Read | unix.EPOLLOUT

	// Accept watches a listening socket that several pollers share. It is level-triggered, and a
	// new connection wakes only one or a few of the waiting pollers (EPOLLEXCLUSIVE, epoll_ctl(2)).
	// A descriptor with this interest cannot be passed to Modify.
	Accept Interest = unix.EPOLLIN | unix.EPOLLEXCLUSIVE
)

// Event reports that a descriptor is ready.
type Event unix.EpollEvent

// FD returns the descriptor, as given to Add.
func (e *Event) FD() int { return int(e.Fd) }

// Gen returns the generation, as given to Add or Modify.
func (e *Event) Gen() uint32 { return uint32(e.Pad) }

// Readable reports whether a read may return bytes, the end of the input, or an error.
func (e *Event) Readable() bool {
	return e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Ended reports whether the peer has closed its side, or the connection has failed. A read returns
// the remaining bytes, and then the end of the input or an error.
func (e *Event) Ended() bool {
	return e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Writable reports whether a write may send bytes or return an error.
func (e *Event) Writable() bool {
	return e.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// A Poller watches descriptors for readiness. The package comment has its contract.
type Poller struct {
	epoll   int
	eventfd int  // edge-triggered and never read: every write causes an event
	busy    bool // the last Wait returned events other than a wake

	awake atomic.Bool // a wake is pending; further ones need no system call
}

// New creates a poller. Its error is that of epoll_create1(2), eventfd(2) or epoll_ctl(2).
func New() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	eventfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Poller{epoll: epoll, eventfd: eventfd}
	if err := p.Add(eventfd, 0, Read); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Add registers fd. Its error is that of epoll_ctl(2), with the descriptor.
func (p *Poller) Add(fd int, gen uint32, i Interest) error {
	return p.control(unix.EPOLL_CTL_ADD, "add", fd, gen, i)
}

// Modify replaces the interest and the generation of fd. Its error is that of epoll_ctl(2), with
// the descriptor.
func (p *Poller) Modify(fd int, gen uint32, i Interest) error {
	return p.control(unix.EPOLL_CTL_MOD, "modify", fd, gen, i)
}

// Remove unregisters fd. Its error is that of epoll_ctl(2), with the descriptor.
func (p *Poller) Remove(fd int) error {
	return p.control(unix.EPOLL_CTL_DEL, "remove", fd, 0, 0)
}

func (p *Poller) control(op int, name string, fd int, gen uint32, i Interest) error {
	event := unix.EpollEvent{Events: uint32(i), Fd: int32(fd), Pad: int32(gen)}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL,
		uintptr(p.epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("epoll_ctl %s %d: %w", name, fd, errno)
	}
	return nil
}

// Wait fills events and returns their number n. It reports in woken whether Wake was called. A
// negative timeout means no timeout; any other is rounded up to whole milliseconds. The error is
// that of epoll_pwait(2).
func (p *Poller) Wait(events []Event, timeout time.Duration) (n int, woken bool, err error) {
	timeoutMS := milliseconds(timeout)
	shortMS := 0
	if p.busy {
		shortMS = shortWait
	}
	if timeoutMS >= 0 {
		shortMS = min(shortMS, timeoutMS)
	}
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT,
		uintptr(p.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(shortMS), 0, 0)
	// EINTR may be the scheduler's request to stop: wait where it can.
	if (r == 0 && errno == 0 || errno == unix.EINTR) && timeoutMS != shortMS {
		if errno == 0 && timeoutMS > 0 {
			timeoutMS -= shortMS
		}
		r, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT,
			uintptr(p.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeoutMS), 0, 0)
	}
	switch errno {
	case 0:
	case unix.EINTR:
		return 0, false, nil
	default:
		return 0, false, fmt.Errorf("epoll_pwait: %w", errno)
	}
	n = int(r)
	p.busy = n > 0
	for i := range events[:n] {
		if int(events[i].Fd) == p.eventfd {
			// Later wakes need a system call again. The swap also synchronizes with wakes that
			// made no system call, so the writes before them are visible.
			p.awake.Swap(false)
			n--
			p.busy = n > 0
			events[i] = events[n]
			return n, true, nil
		}
	}
	return n, false, nil
}

// shortWait is the time in milliseconds that Wait blocks before it tells Go's scheduler, if the
// last Wait returned events.
//
// As long as less than 10 ms pass between events, the runtime's monitor thread finds the goroutine
// running and checks it every 10 ms. It would check a goroutine in a system call every 20 µs, using
// CPU time that the worker could have had. The garbage collector does not have to wait for the end
// of the raw system call: it sends a signal, which interrupts the call. So does the monitor after
// 10 ms if other goroutines are waiting.
//
// The raw wait is 10 ms because that is longer than a kernel tick on most machines. For a timeout
// that expires before the next tick, the kernel programs a hardware timer and then resets it, which
// in a virtual machine costs more than everything else in the wait.
const shortWait = 10

func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	const most = (1<<31 - 1) * time.Millisecond
	return int((min(d, most) + time.Millisecond - 1) / time.Millisecond)
}

// Wake makes the current or the next Wait return. Any goroutine may call it.
func (p *Poller) Wake() {
	if p.awake.Swap(true) {
		return
	}
	one := uint64(1)
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.eventfd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
		switch errno {
		case unix.EINTR:
			continue
		case 0: // the counter overflows only after 584 years of one wake per ns
			return
		case unix.EBADF, unix.EINVAL, unix.EFAULT:
			panic("netpoll: write to eventfd: " + errno.Error())
		default: // a security module denies the write: the next wake tries again
			p.awake.Store(false)
			return
		}
	}
}

// Close closes the poller's own descriptors, but none of those that it watches.
func (p *Poller) Close() error {
	return errors.Join(unix.Close(p.eventfd), unix.Close(p.epoll))
}
