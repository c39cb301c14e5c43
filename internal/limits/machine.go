// Package limits knows what a Linux machine allows a server with very many connections:
// it reads the machine's limits, says how many connections each of them
// allows, which is the smallest, and what to change for more.
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
	// Unlimited is the value of a limit that does not end anything.
	Unlimited = math.MaxInt64

	// Unknown is the value of what this kernel does not show.
	Unknown = -1
)

// A Machine is what the kernel says of its limits and of what is used of them. What it
// does not show is Unknown.
type Machine struct {
	SoftFiles, HardFiles int64 // RLIMIT_NOFILE of this process
	NrOpen               int64 // the highest RLIMIT_NOFILE that can be set
	FileMax, FilesUsed   int64 // of all processes
	EpollWatches         int64 // of one user

	TCPPressure, TCPMax, TCPUsed int64 // pages
	PageSize                     int64

	Conntrack, ConntrackUsed int64 // entries; Unknown without nf_conntrack

	Available   int64 // bytes of memory that can be had without swapping
	CgroupLeft  int64 // bytes that the memory cgroup still allows; Unlimited if it has no limit
	LocalPorts  int64 // for one local and one remote address
	Somaxconn   int64
	SynBacklog  int64
	PacketQueue int64 // net.core.netdev_max_backlog
}

// Here reads the limits of this machine and process.
func Here() (Machine, error) { return Read(os.DirFS("/")) }

// Read reads them from the files under root. What is not there is Unknown; the error says what
// is there and cannot be understood.
func Read(root fs.FS) (Machine, error) {
	r := reader{root: root}
	m := Machine{PageSize: int64(os.Getpagesize())}
	m.SoftFiles, m.HardFiles = two(&r, "proc/self/limits", openFiles)
	m.NrOpen = r.sysctl("fs/nr_open", 1)[0]
	m.FileMax = r.sysctl("fs/file-max", 1)[0]
	m.FilesUsed = r.sysctl("fs/file-nr", 3)[0]
	m.EpollWatches = r.sysctl("fs/epoll/max_user_watches", 1)[0]
	tcp := r.sysctl("net/ipv4/tcp_mem", 3)
	m.TCPPressure, m.TCPMax = tcp[1], tcp[2]
	_, m.TCPUsed = two(&r, "proc/net/sockstat", TCPSockets)
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

// A reader reads files, and gathers what is wrong with them.
type reader struct {
	root fs.FS
	errs []error
}

func (r *reader) wrong(name string, err error) {
	r.errs = append(r.errs, fmt.Errorf("/%s %w", name, err))
}

// text is what is in a file. A file that is not there, or not for us to read, is no error.
func (r *reader) text(name string) (string, bool) {
	text, err := fs.ReadFile(r.root, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		r.wrong(name, err)
	}
	return string(text), err == nil
}

// sysctl reads the numbers of a file under /proc/sys, or so many times Unknown.
func (r *reader) sysctl(name string, want int) []int64 {
	name = "proc/sys/" + name
	if text, ok := r.text(name); ok {
		values, err := numbers(text, want)
		if err == nil {
			return values
		}
		r.wrong(name, err)
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
		r.wrong(name, err)
	}
	return Unknown
}

// two reads a file by a function that finds two numbers in it.
func two(r *reader, name string, parse func(string) (int64, int64, error)) (int64, int64) {
	if text, ok := r.text(name); ok {
		a, b, err := parse(text)
		if err == nil {
			return a, b
		}
		r.wrong(name, err)
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
		r.wrong("proc/sys/net/ipv4/ip_local_port_range", err)
		return Unknown
	}
	return n
}

// cgroupLeft is the least that the process's memory cgroup and those above it still allow.
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
			r.wrong(path.Join(dir, group.limit), err)
			continue
		}
		if limit[0] >= 1<<62 { // version 1 has no other word for none
			continue
		}
		used := int64(0)
		if text, ok := r.text(path.Join(dir, group.used)); ok {
			if n, err := numbers(text, 1); err == nil {
				used = n[0]
			} else {
				r.wrong(path.Join(dir, group.used), err)
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
