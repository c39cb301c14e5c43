// Package limits computes how many connections a Linux machine allows a server to have. It reads
// the machine's limits, and returns how many connections each allows, which one is the smallest,
// and how to raise it.
package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
)

const (
	// Unlimited is the value of a resource without a limit.
	Unlimited = math.MaxInt64

	// Unknown is the value of a limit that cannot be read here.
	Unknown = -1
)

// A Machine holds the kernel's limits and the current use of them. A field is Unknown if the kernel
// or the container does not show it.
type Machine struct {
	SoftFiles, HardFiles int64 // RLIMIT_NOFILE of this process
	NrOpen               int64 // fs.nr_open: the highest RLIMIT_NOFILE that can be set
	FileMax, FilesUsed   int64 // open files of all processes
	EpollWatches         int64 // epoll registrations per user

	TCPPressure, TCPMax, TCPUsed int64 // pages
	PageSize                     int64

	Conntrack, ConntrackUsed int64 // entries; Unknown without nf_conntrack

	Available   int64 // memory available without swapping, in bytes
	CgroupLeft  int64 // bytes that the memory cgroup still allows; Unlimited if it has no limit
	LocalPorts  int64 // ephemeral ports, per pair of a local address and a remote address with port
	Somaxconn   int64
	SynBacklog  int64
	PacketQueue int64 // net.core.netdev_max_backlog
}

// Here reads the limits of this machine and process.
func Here() (Machine, error) { return Read(os.DirFS("/")) }

// Read reads the limits from the files proc and sys under root. Values whose file is missing are
// Unknown. The error lists the files that exist but cannot be parsed; all other values are then
// set.
func Read(root fs.FS) (Machine, error) {
	r := reader{root: root}
	m := Machine{PageSize: int64(os.Getpagesize())}
	m.SoftFiles, m.HardFiles = readPair(&r, "proc/self/limits", openFiles)
	m.NrOpen = r.sysctl("fs/nr_open", 1)[0]
	m.FileMax = r.sysctl("fs/file-max", 1)[0]
	m.FilesUsed = r.sysctl("fs/file-nr", 3)[0]
	m.EpollWatches = r.sysctl("fs/epoll/max_user_watches", 1)[0]
	tcp := r.sysctl("net/ipv4/tcp_mem", 3)
	m.TCPPressure, m.TCPMax = tcp[1], tcp[2]
	_, m.TCPUsed = readPair(&r, "proc/net/sockstat", TCPSockets)
	m.Conntrack = r.sysctl("net/netfilter/nf_conntrack_max", 1)[0]
	m.ConntrackUsed = r.sysctl("net/netfilter/nf_conntrack_count", 1)[0]
	m.Available = r.keyed("proc/meminfo", "MemAvailable")
	m.CgroupLeft = r.cgroupLeft()
	m.LocalPorts = r.localPorts()
	m.Somaxconn = r.sysctl("net/core/somaxconn", 1)[0]
	m.SynBacklog = r.sysctl("net/ipv4/tcp_max_syn_backlog", 1)[0]
	m.PacketQueue = r.sysctl("net/core/netdev_max_backlog", 1)[0]
	return m, errors.Join(r.errs...)
}

// A reader reads files, and collects the errors.
type reader struct {
	root fs.FS
	errs []error
}

func (r *reader) fail(name string, err error) {
	r.errs = append(r.errs, fmt.Errorf("/%s %w", name, err))
}

// text returns the content of a file. It is no error if the file does not exist or may not be read.
func (r *reader) text(name string) (string, bool) {
	text, err := fs.ReadFile(r.root, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		r.fail(name, err)
	}
	return string(text), err == nil
}

// sysctl returns the numbers in a file under /proc/sys, of which there must be want. If they cannot
// be read, each is Unknown.
func (r *reader) sysctl(name string, want int) []int64 {
	name = "proc/sys/" + name
	if text, ok := r.text(name); ok {
		values, err := numbers(text, want)
		if err == nil {
			return values
		}
		r.fail(name, err)
	}
	unknown := make([]int64, want)
	for i := range unknown {
		unknown[i] = Unknown
	}
	return unknown
}

func (r *reader) keyed(name, key string) int64 {
	if text, ok := r.text(name); ok {
		n, err := Keyed(text, key)
		if err == nil {
			return n
		}
		r.fail(name, err)
	}
	return Unknown
}

// readPair reads two numbers from a file with the given parser.
func readPair(r *reader, name string, parse func(string) (int64, int64, error)) (int64, int64) {
	if text, ok := r.text(name); ok {
		a, b, err := parse(text)
		if err == nil {
			return a, b
		}
		r.fail(name, err)
	}
	return Unknown, Unknown
}

func (r *reader) localPorts() int64 {
	ends := r.sysctl("net/ipv4/ip_local_port_range", 2)
	if ends[0] == Unknown {
		return Unknown
	}
	reserved, _ := r.text("proc/sys/net/ipv4/ip_local_reserved_ports")
	n, err := ports(ends[0], ends[1], reserved)
	if err != nil {
		r.fail("proc/sys/net/ipv4/ip_local_port_range", err)
		return Unknown
	}
	return n
}

// cgroupLeft returns how many bytes of memory the process's cgroup and its ancestors still allow:
// the minimum of all of them.
func (r *reader) cgroupLeft() int64 {
	text, ok := r.text("proc/self/cgroup")
	if !ok {
		return Unlimited
	}
	group, found := memoryGroup(text)
	if !found {
		return Unlimited
	}
	left := int64(Unlimited)
	for _, dir := range group.dirs {
		text, ok := r.text(path.Join(dir, group.limit))
		if !ok || strings.TrimSpace(text) == "max" {
			continue
		}
		limit, err := numbers(text, 1)
		if err != nil {
			r.fail(path.Join(dir, group.limit), err)
			continue
		}
		if limit[0] >= 1<<62 { // no limit, in version 1
			continue
		}
		used := int64(0)
		if text, ok := r.text(path.Join(dir, group.used)); ok {
			if n, err := numbers(text, 1); err == nil {
				used = n[0]
			} else {
				r.fail(path.Join(dir, group.used), err)
			}
		}
		if text, ok := r.text(path.Join(dir, group.stat)); ok {
			if n, err := Keyed(text, group.evictable); err == nil {
				used -= min(n, used)
			}
		}
		left = min(left, max(0, limit[0]-used))
	}
	return left
}
