package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"wsecho/internal/limits"
)

// check prints what this machine allows and how many connections that makes. It
// returns exitFailed if they are fewer than -max-conns asks for.
func (s *settings) check(m limits.Machine, w io.Writer) int {
	load := limits.Load{Descriptors: int64(s.ownDescriptors()), Memory: s.memory(), Ends: 1}
	if s.maxConns == 0 {
		load.Most = mostConns
	}
	all := m.Of(load)
	least := limits.Smallest(all)
	allowed, wanted := least.Allows(), int64(s.maxConns)

	fmt.Fprintf(w, "This machine is good for %s connections; %s is what ends first.\n\n", limits.Thousands(allowed), least.Name)
	writeLimits(w, all, least, max(wanted, 1_000_000))
	fmt.Fprintf(w, "\nMemory is for connections that are idle, besides %s for the server with its -buffer-budget. Of tcp_mem an idle connection\nmay hold a page; above pressure, TCP shrinks windows.\n",
		limits.Bytes(load.Memory))
	writeBursts(w, m)

	fmt.Fprintln(w)
	short := limits.Short(all, wanted)
	for _, l := range short {
		fmt.Fprintf(w, "-max-conns %d is too many for %s\n", wanted, l.Shortage(wanted))
	}
	switch {
	case len(short) > 0:
		return exitFailed
	case wanted > 0:
		fmt.Fprintf(w, "-max-conns %d is allowed.\n", wanted)
	default:
		fmt.Fprintln(w, "With -max-conns, this checks for a number. deploy/sysctl.d/ has settings for 100,000 and for a million connections.")
	}
	return exitDrained
}

// writeLimits writes a row for each limit.
func writeLimits(w io.Writer, all []limits.Limit, least limits.Limit, wanted int64) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "limit\there\tfor others\ta connection\tallows\tfor %s\n", limits.Thousands(wanted))
	for _, l := range all {
		allows, mend := "any number", "enough"
		if n := l.Allows(); n != limits.Unlimited {
			allows = limits.Thousands(n)
		}
		if l.Allows() < wanted {
			mend = l.HowTo(wanted)
		}
		if l.Name == least.Name {
			allows += " <"
		}
		fmt.Fprintf(t, "%s\t%s%s\t%s\t%s\t%s\t%s\n", l.Name, l.Show(l.Has), l.Note, l.Show(l.Fixed), l.Show(l.Each), allows, mend)
	}
	t.Flush()
}

// writeBursts writes what bounds how fast connections come, or how many come from one place, and not how
// many there are.
func writeBursts(w io.Writer, m limits.Machine) {
	fmt.Fprint(w, "\nNot of the number, but of how many come at once, or from where:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		name  string
		value int64
		what  string
	}{
		{"net.core.somaxconn", m.Somaxconn, "connections that wait to be accepted, a listener; others try again after a second"},
		{"net.ipv4.tcp_max_syn_backlog", m.SynBacklog, "handshakes begun, a listener; then SYN cookies"},
		{"net.core.netdev_max_backlog", m.PacketQueue, "packets that wait for a CPU; then they are lost"},
		{"net.ipv4.ip_local_port_range", m.LocalPorts, "ports that a client, load generator or proxy has for one address of this server"},
	} {
		value := "unknown"
		if row.value != limits.Unknown {
			value = limits.Thousands(row.value)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.name, value, row.what)
	}
	t.Flush()
}

// memory is the most that the server takes, whatever the number of connections. The README has the sum.
func (s *settings) memory() int64 {
	return 7<<20 + 4<<20 + int64(s.workers)*2*bufferSize + int64(s.bufferBudget)/64*65
}
