package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"wsecho/internal/format"
	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

// check prints what this machine allows and how many connections that makes. It
// returns exitFailed if they are fewer than -max-conns asks for.
func (s *settings) check(m limits.Machine, w io.Writer) int {
	needs := s.poolConfig(nil).Needs()
	load := limits.Load{Descriptors: needs.Descriptors(), Memory: needs.Memory(), Ends: 1}
	if s.maxConns == 0 {
		load.Most = pool.MostConns
	}
	all := m.Of(load)
	least := limits.Smallest(all)
	allowed, wanted := least.Allows(), int64(s.maxConns)

	fmt.Fprintf(w, "This machine is good for %s connections. What ends first: %s.\n\n", format.Thousands(allowed), least.Name)
	writeLimits(w, all, least)
	fmt.Fprintf(w, `
Of memory the server has %s for itself with its -buffer-budget, the rest is for
connections that hold nothing in it. Of tcp_mem a connection holds a page while
bytes are in flight, as on all of them when they are told to go.
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

// writeLimits writes a row for each limit.
func writeLimits(w io.Writer, all []limits.Limit, least limits.Limit) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "limit\there\tfor others\teach\tconnections")
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

// writeRemedies says what to do for more.
func writeRemedies(w io.Writer, all []limits.Limit) {
	for _, conns := range []int64{100_000, 1_000_000} {
		short := limits.Short(all, conns)
		if len(short) == 0 {
			fmt.Fprintf(w, "%s connections are allowed.\n", format.Thousands(conns))
			continue
		}
		fmt.Fprintf(w, "For %s connections (deploy/sysctl.d/):\n", format.Thousands(conns))
		for _, l := range short {
			fmt.Fprintf(w, "  %s\n", l.HowTo(conns))
		}
	}
}

// writeBursts writes what bounds how fast connections come, or how many come from one place, and not how
// many there are.
func writeBursts(w io.Writer, m limits.Machine) {
	fmt.Fprint(w, "\nThese do not bound their number, but how many come at once, or from where:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value int64, what string) {
		text := "unknown"
		if value != limits.Unknown {
			text = format.Thousands(value)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", name, text, what)
	}
	row("net.core.somaxconn", m.Somaxconn, "wait to be accepted, a listener")
	row("net.ipv4.tcp_max_syn_backlog", m.SynBacklog, "have begun, a listener; then SYN cookies")
	row("net.core.netdev_max_backlog", m.PacketQueue, "packets wait for a CPU; more are lost")
	row("net.ipv4.ip_local_port_range", m.LocalPorts, "ports, for a client or proxy at one address")
	if m.Conntrack != limits.Unknown && !m.Tracks() {
		row("nf_conntrack_max", m.Conntrack, "no firewall rule tracks connections now")
	}
	t.Flush()
}
