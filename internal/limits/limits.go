package limits

import (
	"fmt"
	"strings"

	"wsecho/internal/format"
)

// Memory of one end of an idle connection, in bytes. KernelBytes was measured by `make million-vm`
// (docs/million.md) with Debian's kernel 6.1.
const (
	KernelBytes = 4300 // socket, inode, directory entry, open file and epoll entry
	ServerBytes = 72   // a slot, and a bit in several sets

	// tcpPages is how many pages of tcp_mem a connection uses while a few bytes are in flight,
	// which is the state of all connections while they are closed with 1001. The kernel accounts in
	// whole pages. An idle connection uses none.
	tcpPages = 1
)

// A Load describes the server that a machine is checked for.
type Load struct {
	Descriptors int64 // descriptors that the server uses for other purposes than connections
	Memory      int64 // memory of the server without connections, in bytes
	Ends        int64 // ends of each connection on this machine: 1, or 2 if the clients run here too
	Most        int64 // maximum number of connections of the server; 0: unknown
}

// A Limit is a resource that bounds the number of connections. Of the quantity Has, Fixed is used
// independently of connections, and each connection uses Each.
type Limit struct {
	Name   string
	Has    int64 // the limit's value; if Unknown or Unlimited, it allows any number of connections
	Fixed  int64
	Each   int64
	Bytes  bool   // the unit is bytes
	Remedy string // how to raise the limit; %[1]d stands for the value needed

	needs func(conns int64) int64 // replaces Fixed + Each*conns, if not nil
}

// Allows returns the number of connections that the limit allows.
func (l Limit) Allows() int64 {
	if l.Has == Unknown || l.Has == Unlimited {
		return Unlimited
	}
	return max(0, l.Has-l.Fixed) / l.Each
}

// Needs returns the value of Has that conns connections need.
func (l Limit) Needs(conns int64) int64 {
	if l.needs != nil {
		return l.needs(conns)
	}
	return l.Fixed + l.Each*conns
}

// HowTo returns how to raise the limit for conns connections.
func (l Limit) HowTo(conns int64) string {
	if !strings.Contains(l.Remedy, "%[1]") {
		return l.Remedy
	}
	return fmt.Sprintf(l.Remedy, l.Needs(conns))
}

// Show formats n in the limit's unit.
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

// Tracks reports whether netfilter tracks connections. It does as soon as a firewall rule needs it,
// and the table then has entries.
func (m Machine) Tracks() bool { return m.Conntrack != Unknown && m.ConntrackUsed > 0 }

// Of returns the machine's limits for a load, descriptors first.
func (m Machine) Of(load Load) []Limit {
	ofProcess := func(name string, has int64, remedy string) Limit {
		return Limit{Name: name, Has: has, Each: 1, Fixed: min(load.Descriptors, max(0, has)/4), Remedy: remedy,
			needs: func(conns int64) int64 { return DescriptorsFor(conns, load.Descriptors) }}
	}
	all := []Limit{
		ofProcess("open files per process", m.HardFiles, "LimitNOFILE=%[1]d in the unit, or ulimit -Hn %[1]d as root"),
		ofProcess("fs.nr_open", m.NrOpen, "sysctl fs.nr_open=%[1]d"),
		{Name: "fs.file-max", Has: m.FileMax, Each: load.Ends, Fixed: max(0, m.FilesUsed) + load.Descriptors, Remedy: "sysctl fs.file-max=%[1]d"},
		{Name: "fs.epoll.max_user_watches", Has: m.EpollWatches, Each: load.Ends, Remedy: "sysctl fs.epoll.max_user_watches=%[1]d"},
		{Name: "net.ipv4.tcp_mem (pressure)", Has: m.TCPPressure, Each: load.Ends * tcpPages, Fixed: max(0, m.TCPUsed),
			Remedy: "sysctl net.ipv4.tcp_mem: set the second value to %[1]d pages"},
	}
	if m.Tracks() {
		all = append(all, Limit{Name: "nf_conntrack_max", Has: m.Conntrack, Each: 1, Fixed: m.ConntrackUsed,
			Remedy: "sysctl net.netfilter.nf_conntrack_max=%[1]d, or a notrack rule for the port"})
	}
	memory := Limit{Name: "available memory", Has: m.Available, Bytes: true, Fixed: load.Memory, Each: load.Ends*KernelBytes + ServerBytes,
		Remedy: "add memory, or reduce -buffer-budget"}
	if load.Ends > 1 {
		memory.Each += loaderBytes
	}
	all = append(all, memory)
	if m.CgroupLeft != Unlimited {
		memory.Name, memory.Has, memory.Remedy = "memory of the cgroup", m.CgroupLeft, "MemoryMax= in the unit, or the container's memory limit"
		all = append(all, memory)
	}
	if load.Most > 0 {
		all = append(all, Limit{Name: "-max-conns", Has: load.Most, Each: 1, Remedy: "-max-conns"})
	}
	return all
}

// loaderBytes is wsload's memory per connection, in bytes.
const loaderBytes = 140

// Smallest returns the limit that allows the fewest connections.
func Smallest(all []Limit) Limit {
	least := all[0]
	for _, l := range all {
		if l.Allows() < least.Allows() {
			least = l
		}
	}
	return least
}

// Short returns the limits that allow fewer than conns connections.
func Short(all []Limit, conns int64) (short []Limit) {
	for _, l := range all {
		if l.Allows() < conns {
			short = append(short, l)
		}
	}
	return short
}

// Shortage describes by how much the limit is too small for conns connections, and how to raise it.
func (l Limit) Shortage(conns int64) string {
	need := l.Needs(conns)
	return fmt.Sprintf("%s: limit %s, needed %s (%s short), enough for %s connections. To raise it: %s", l.Name, l.Show(l.Has),
		l.Show(need), l.Show(need-l.Has), format.Thousands(l.Allows()), l.HowTo(conns))
}

// ConnsFor returns the number of connections that a process may have if own of its descriptors are
// kept for other purposes. If there are few descriptors, only a quarter of them is kept.
func ConnsFor(descriptors, own int64) int64 { return descriptors - min(own, descriptors/4) }

// DescriptorsFor returns the number of descriptors that conns connections need. It is the inverse
// of ConnsFor.
func DescriptorsFor(conns, own int64) int64 { return conns + min(own, conns/3) }
