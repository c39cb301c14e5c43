package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"wsecho/internal/format"
	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

// check prints the limits of a machine and the number of connections that they allow. It returns
// exitFailed if they allow fewer than -max-conns.
func (s *settings) check(m limits.Machine, w io.Writer) int {
	needs := s.poolConfig(nil).Needs()
	load := limits.Load{Descriptors: needs.Descriptors(), Memory: needs.Memory(), Ends: 1}
	if s.maxConns == 0 {
		load.Most = pool.MostConns
	}
	all := m.Of(load)
	least := limits.Smallest(all)
	allowed, wanted := least.Allows(), int64(s.maxConns)

	fmt.Fprintf(w, "This machine allows %s connections. The first limit reached: %s.\n\n", format.Thousands(allowed), least.Name)
	writeLimits(w, all, least)
	fmt.Fprintf(w, `
The server takes %s of memory for itself, including its -buffer-budget; the rest is
for idle connections. A connection takes a page of tcp_mem while bytes are in flight,
as on all connections at once in a drain.
`, format.Bytes(load.Memory))
	writeBursts(w, m)

	fmt.Fprintln(w)
	short := limits.Short(all, wanted)
	switch {
	case wanted == 0:
		writeRemedies(w, all)
	case len(short) == 0:
		fmt.Fprintf(w, "-max-conns %d is allowed.\n", wanted)
	default:
		for _, l := range short {
			fmt.Fprintf(w, "-max-conns %d is too many for %s\n", wanted, l.Shortage(wanted))
		}
		return exitFailed
	}
	return exitDrained
}

// writeLimits writes a table with a row for each limit, and marks the first one reached.
func writeLimits(w io.Writer, all []limits.Limit, least limits.Limit) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "limit\tvalue\tother use\tper connection\tconnections")
	for _, l := range all {
		allows := "any number"
		if n := l.Allows(); n != limits.Unlimited {
			allows = format.Thousands(n)
		}
		if l.Name == least.Name {
			allows += " <"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Name, l.Show(l.Has), l.Show(l.Fixed), l.Show(l.Each), allows)
	}
	t.Flush()
}

// writeRemedies writes what to change for more connections.
func writeRemedies(w io.Writer, all []limits.Limit) {
	for _, conns := range []int64{100_000, 1_000_000} {
		short := limits.Short(all, conns)
		if len(short) == 0 {
			fmt.Fprintf(w, "%s connections are allowed.\n", format.Thousands(conns))
			continue
		}
		fmt.Fprintf(w, "Changes for %s connections (see deploy/sysctl.d/):\n", format.Thousands(conns))
		for _, l := range short {
			fmt.Fprintf(w, "  %s\n", l.HowTo(conns))
		}
	}
}

// writeBursts writes the limits on the rate of new connections and on connections from one address,
// which do not limit the total.
func writeBursts(w io.Writer, m limits.Machine) {
	fmt.Fprint(w, "\nThese settings limit bursts of new connections, or connections from one address, but not the total:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value int64, what string) {
		text := "unknown"
		if value != limits.Unknown {
			text = format.Thousands(value)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", name, text, what)
	}
	row("net.core.somaxconn", m.Somaxconn, "connections waiting to be accepted, per listener")
	row("net.ipv4.tcp_max_syn_backlog", m.SynBacklog, "handshakes in progress, per listener; beyond, SYN cookies")
	row("net.core.netdev_max_backlog", m.PacketQueue, "packets waiting for a CPU; further ones are dropped")
	row("net.ipv4.ip_local_port_range", m.LocalPorts, "ports of a client or proxy with one address")
	if m.Conntrack != limits.Unknown && !m.Tracks() {
		row("nf_conntrack_max", m.Conntrack, "not in use: no firewall rule tracks connections")
	}
	t.Flush()
}
