package limits

import (
	"fmt"
	"strings"

	"wsecho/internal/format"
)

// What an idle connection costs on one end. The kernel's part was measured by `make million-vm` (docs/million.md)
// with Debian's kernel 6.1: a socket, its inode and name, the open file, and its place in epoll.
const (
	KernelBytes = 4300
	ServerBytes = 72 // a slot, and a bit in each of some sets

	// tcpPages are what a connection holds of tcp_mem with few bytes in flight, as all of them have when they are told 1001: the
	// kernel takes from it in whole pages. While it is idle, it holds none.
	tcpPages = 1
)

// A Load is what a machine is to be checked for.
type Load struct {
	Descriptors int64 // that the server keeps for itself
	Memory      int64 // bytes of the server, whatever the number of connections
	Ends        int64 // of each connection that are on this machine: 1, or 2 with the clients
	Most        int64 // connections that the server takes in any case; 0: unknown
}

// A Limit allows some number of connections. Of Has, a connection takes Each, and Fixed are taken
// without any.
type Limit struct {
	Name   string
	Has    int64 // Unknown, or Unlimited, allow everything
	Fixed  int64
	Each   int64
	Bytes  bool   // not a number of things
	Remedy string // what to do for more; %d is for what is needed

	needs func(conns int64) int64 // if it is not Fixed + Each*conns
}

// Allows is how many connections the limit allows.
func (l Limit) Allows() int64 {
	if l.Has == Unknown || l.Has == Unlimited {
		return Unlimited
	}
	return max(0, l.Has-l.Fixed) / l.Each
}

// Needs is what Has would have to be for so many connections.
func (l Limit) Needs(conns int64) int64 {
	if l.needs != nil {
		return l.needs(conns)
	}
	return l.Fixed + l.Each*conns
}

// HowTo says what to do for so many connections.
func (l Limit) HowTo(conns int64) string {
	if !strings.Contains(l.Remedy, "%[1]") {
		return l.Remedy
	}
	return fmt.Sprintf(l.Remedy, l.Needs(conns))
}

// Show is n in the limit's unit.
func (l Limit) Show(n int64) string {
	switch {
	case n == Unknown:
		return "unknown"
	case n == Unlimited:
		return "unlimited"
	case l.Bytes:
		return format.Bytes(n)
	}
	return format.Thousands(n)
}

// Tracks says whether netfilter tracks connections: it has entries as soon as a firewall rule needs them.
func (m Machine) Tracks() bool { return m.Conntrack != Unknown && m.ConntrackUsed > 0 }

// Of are the limits for a load, the descriptors first.
func (m Machine) Of(load Load) []Limit {
	ofProcess := func(name string, has int64, remedy string) Limit {
		return Limit{Name: name, Has: has, Each: 1, Fixed: min(load.Descriptors, max(0, has)/4), Remedy: remedy,
			needs: func(conns int64) int64 { return DescriptorsFor(conns, load.Descriptors) }}
	}
	all := []Limit{
		ofProcess("open files of a process", m.HardFiles, "LimitNOFILE=%[1]d in the unit, or ulimit -Hn %[1]d as root"),
		ofProcess("fs.nr_open", m.NrOpen, "sysctl fs.nr_open=%[1]d"),
		{Name: "fs.file-max", Has: m.FileMax, Each: load.Ends, Fixed: max(0, m.FilesUsed) + load.Descriptors, Remedy: "sysctl fs.file-max=%[1]d"},
		{Name: "fs.epoll.max_user_watches", Has: m.EpollWatches, Each: load.Ends, Remedy: "sysctl fs.epoll.max_user_watches=%[1]d"},
		{Name: "net.ipv4.tcp_mem, pressure", Has: m.TCPPressure, Each: load.Ends * tcpPages, Fixed: max(0, m.TCPUsed),
			Remedy: "sysctl net.ipv4.tcp_mem, the second of its numbers: %[1]d pages"},
	}
	if m.Tracks() {
		all = append(all, Limit{Name: "nf_conntrack_max", Has: m.Conntrack, Each: 1, Fixed: m.ConntrackUsed,
			Remedy: "sysctl net.netfilter.nf_conntrack_max=%[1]d, or a notrack rule for the port"})
	}
	memory := Limit{Name: "memory, available", Has: m.Available, Bytes: true, Fixed: load.Memory, Each: load.Ends*KernelBytes + ServerBytes,
		Remedy: "memory, or a smaller -buffer-budget"}
	if load.Ends > 1 {
		memory.Each += loaderBytes
	}
	all = append(all, memory)
	if m.CgroupLeft != Unlimited {
		memory.Name, memory.Has, memory.Remedy = "memory, of the cgroup", m.CgroupLeft, "MemoryMax= in the unit, or the container's limit"
		all = append(all, memory)
	}
	if load.Most > 0 {
		all = append(all, Limit{Name: "-max-conns", Has: load.Most, Each: 1, Remedy: "-max-conns"})
	}
	return all
}

// loaderBytes are what wsload takes for a connection.
const loaderBytes = 140

// Smallest is the limit that ends first.
func Smallest(all []Limit) Limit {
	least := all[0]
	for _, l := range all {
		if l.Allows() < least.Allows() {
			least = l
		}
	}
	return least
}

// Short are the limits that allow fewer connections than so many.
func Short(all []Limit, conns int64) (short []Limit) {
	for _, l := range all {
		if l.Allows() < conns {
			short = append(short, l)
		}
	}
	return short
}

// Shortage says by how much a limit is too small.
func (l Limit) Shortage(conns int64) string {
	need := l.Needs(conns)
	return fmt.Sprintf("%s: %s, and %s wanted: %s short, enough for %s connections. For more: %s", l.Name, l.Show(l.Has),
		l.Show(need), l.Show(need-l.Has), format.Thousands(l.Allows()), l.HowTo(conns))
}

// ConnsFor is how many connections a process may have of its descriptors if it keeps own of them for itself; but
// where there are few at all, a quarter of them.
func ConnsFor(descriptors, own int64) int64 { return descriptors - min(own, descriptors/4) }

// DescriptorsFor is how many descriptors so many connections take.
func DescriptorsFor(conns, own int64) int64 { return conns + min(own, conns/3) }
