// Package netpoll is descriptors and their readiness, for Linux: an epoll
// poller, and the non-blocking calls on the sockets that it watches. It knows
// nothing of what the bytes mean.
//
// # The poller's contract
//
// A [Poller] belongs to one goroutine, its owner. Only Wake may be called by others.
//
//   - Add(fd, gen, interest) begins to watch a descriptor. Its events carry fd
//     and gen, so that the owner can tell an event for a descriptor that it
//     has since closed, and the kernel given out again, from one for the descriptor's new
//     life. Descriptors are non-blocking, and owned by whoever added them.
//   - Modify(fd, gen, interest) replaces what is watched for. What is ready at
//     that moment is reported, even if it had been before.
//   - Remove(fd) ends the watching. It comes before close: epoll watches the open file
//     description, which outlives the descriptor if anybody has a duplicate.
//   - Wait(events, timeout) fills events with what has happened and says whether
//     somebody called Wake. While there are events it waits for a moment before it blocks in the
//     scheduler's eyes: see shortWait. It may return nothing before the timeout.
//   - Wake() makes the current or the next Wait return. Any number of wakes before
//     that return are one. What was done before Wake is seen after that Wait.
//   - Close() ends it, once nobody will call Wake again.
//
// [Read] and [ReadWrite] are edge-triggered: an event says that something has
// arrived since the last one, and is not repeated for what the owner leaves
// unread. So whoever stops reading early must remember to read again. The same holds for
// writing: after a Send that took less than all, an event says that
// there is room again.
//
// EINTR and EAGAIN stop here: no function of this package returns either.
//
// Calls that cannot block are made as raw system calls, without telling Go's scheduler, which
// is a good part of the cost of a small message. Only a wait that blocks for long
// goes the ordinary way.
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

// Interest is what a descriptor is watched for.
type Interest uint32

const (
	// Read watches for input and the peer's end of it, edge-triggered.
	Read Interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

	// ReadWrite watches for room to write as well.
	ReadWrite = Read | unix.EPOLLOUT

	// Accept watches a listening socket together with other pollers. It is
	// level-triggered, and of the pollers that wait only one or a few are told of a
	// connection (EPOLLEXCLUSIVE, epoll_ctl(2)). It cannot be Modified.
	Accept Interest = unix.EPOLLIN | unix.EPOLLEXCLUSIVE
)

// Event is readiness of one descriptor.
type Event unix.EpollEvent

// FD is the descriptor, as given to Add.
func (e *Event) FD() int { return int(e.Fd) }

// Gen is the generation given to Add.
func (e *Event) Gen() uint32 { return uint32(e.Pad) }

// Readable says that there may be something to read: bytes, the end of
// them, or an error.
func (e *Event) Readable() bool {
	return e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Ended says that the peer has ended its side, or the connection has failed:
// there is an end or an error to be read behind what bytes there are.
func (e *Event) Ended() bool {
	return e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Writable says that there may be room to write, or an error in its place.
func (e *Event) Writable() bool {
	return e.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// A Poller watches descriptors. See the package comment.
type Poller struct {
	epoll   int
	eventfd int  // edge-triggered and never read: every write is an event
	busy    bool // the last wait had events, beside a wake

	awake atomic.Bool // a wake is on its way; the next ones need not be sent
}

// New makes a poller.
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

// Add begins to watch fd.
func (p *Poller) Add(fd int, gen uint32, i Interest) error {
	return p.control(unix.EPOLL_CTL_ADD, "add", fd, gen, i)
}

// Modify replaces what fd is watched for.
func (p *Poller) Modify(fd int, gen uint32, i Interest) error {
	return p.control(unix.EPOLL_CTL_MOD, "modify", fd, gen, i)
}

// Remove ends the watching of fd.
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

// Wait fills events, says how many there are, and whether Wake was called. A
// negative timeout is forever; any other is rounded up to whole milliseconds.
func (p *Poller) Wait(events []Event, timeout time.Duration) (n int, woken bool, err error) {
	patience := milliseconds(timeout)
	short := 0
	if p.busy {
		short = shortWait
	}
	if patience >= 0 {
		short = min(short, patience)
	}
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT,
		uintptr(p.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(short), 0, 0)
	if (r == 0 && errno == 0 || errno == unix.EINTR) && patience != short { // the scheduler's signal wants to be let in
		if errno == 0 && patience > 0 {
			patience -= short
		}
		r, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT,
			uintptr(p.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(patience), 0, 0)
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
			// From here on a wake is sent again. What was done before those that
			// were not sent is seen from here on, for they swapped, too.
			p.awake.Swap(false)
			n--
			p.busy = n > 0
			events[i] = events[n]
			return n, true, nil
		}
	}
	return n, false, nil
}

// shortWait, in milliseconds, is how long the calling thread waits by itself before Go's scheduler is told that it blocks, if
// something has come the last time. While something comes more often than that, the runtime's monitor finds the goroutine running and looks
// every 10 ms. A goroutine that it finds in a system call it looks at every 20 µs, on a processor that the worker could have
// had. The collector need not wait for the end of it: it sends a signal; and so does the monitor after 10 ms, for other goroutines.
// It is longer than the kernel's clock tick as a rule is: a wait that ends before the next tick has a timer set for it and taken back, which
// costs a virtual machine more than all else about the wait.
const shortWait = 10

func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	const most = (1<<31 - 1) * time.Millisecond
	return int((min(d, most) + time.Millisecond - 1) / time.Millisecond)
}

// Wake makes Wait return. Any goroutine may call it.
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
		case 0: // the counter is full after 584 years
			return
		case unix.EBADF, unix.EINVAL, unix.EFAULT:
			panic("netpoll: write to eventfd: " + errno.Error())
		default: // a security module forbids it: the next wake tries again
			p.awake.Store(false)
			return
		}
	}
}

// Close releases the poller's own descriptors.
func (p *Poller) Close() error {
	return errors.Join(unix.Close(p.eventfd), unix.Close(p.epoll))
}
