package main

import (
	"bytes"
	"strings"
	"testing"

	"wsecho/internal/limits"
)

// roomy returns a machine whose first limit is its descriptors, after changes to it.
func roomy(changes func(*limits.Machine)) limits.Machine {
	m := limits.Machine{SoftFiles: 1024, HardFiles: 20_000, NrOpen: 1 << 20, FileMax: 1 << 22, FilesUsed: 1000, EpollWatches: 1 << 22,
		TCPPressure: 1 << 22, TCPMax: 1 << 23, PageSize: 4096, Conntrack: limits.Unknown, ConntrackUsed: limits.Unknown,
		Available: 64 << 30, CgroupLeft: limits.Unlimited, LocalPorts: 28_232, Somaxconn: 4096, SynBacklog: 2048, PacketQueue: 1000}
	if changes != nil {
		changes(&m)
	}
	return m
}

func TestCheckReportsFirstLimitAndRemedies(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		m      limits.Machine
		status int
		wants  []string
	}{
		{"without -max-conns", nil, roomy(nil), exitDrained, []string{
			"allows 19,806 connections. The first limit reached: open files per process.", "19,806 <",
			"Changes for 100,000 connections", "LimitNOFILE=100194", "LimitNOFILE=1000194", "net.core.somaxconn  ", "4,096", "28,232"}},
		{"as many as allowed", []string{"-max-conns", "19806"}, roomy(nil), exitDrained, []string{"-max-conns 19806 is allowed"}},
		{"one too many", []string{"-max-conns", "19807"}, roomy(nil), exitFailed, []string{
			"-max-conns 19807 is too many for open files per process: limit 20,000, needed 20,001 (1 short), enough for 19,806"}},
		{"two limits too low", []string{"-max-conns", "30000"}, roomy(func(m *limits.Machine) { m.TCPPressure, m.TCPUsed = 25_000, 5000 }), exitFailed, []string{
			"too many for open files", "too many for net.ipv4.tcp_mem (pressure): limit 25,000, needed 35,000 (10,000 short)"}},
		{"more workers", []string{"-workers", "4"}, roomy(nil), exitDrained, []string{"allows 19,608 connections"}},
		{"the budget counts as memory", []string{"-buffer-budget", "1GiB"}, roomy(func(m *limits.Machine) { m.Available = 1 << 30 }), exitDrained, []string{
			"allows 0 connections. The first limit reached: available memory"}},
		{"the server's own limit", nil, roomy(func(m *limits.Machine) {
			m.HardFiles, m.NrOpen, m.FileMax, m.EpollWatches, m.TCPPressure = 1<<30, 1<<30, 1<<40, 1<<40, 1<<40
		}),
			exitDrained, []string{"allows 4,194,304 connections. The first limit reached: -max-conns", "1,000,000 connections are allowed"}},
		{"conntrack in use", nil, roomy(func(m *limits.Machine) { m.Conntrack, m.ConntrackUsed = 1000, 10 }), exitDrained, []string{
			"allows 990 connections. The first limit reached: nf_conntrack_max", "nf_conntrack_max=100010, or a notrack rule"}},
		{"conntrack not in use", nil, roomy(func(m *limits.Machine) { m.Conntrack, m.ConntrackUsed = 1000, 0 }), exitDrained, []string{
			"allows 19,806", "no firewall rule tracks"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parse(append([]string{"-check", "-workers", "1"}, c.args...))
			if err != nil || !s.checkOnly {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if status := s.check(c.m, &out); status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			for _, want := range c.wants {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

// The number of connections that -check prints is the -max-conns that the server chooses.
func TestCheckAgreesWithServer(t *testing.T) {
	for _, limit := range []int{100, 600, 1024, 20_000, 1 << 20} {
		s, err := parse([]string{"-workers", "1"})
		if err != nil {
			t.Fatal(err)
		}
		m := roomy(func(m *limits.Machine) { m.HardFiles = int64(limit) })
		cfg := s.poolConfig(nil)
		printed := limits.Smallest(m.Of(limits.Load{Descriptors: cfg.Needs().Descriptors(), Memory: cfg.Needs().Memory(), Ends: 1})).Allows()
		err = s.fit(cfg, limit)
		if err != nil || int64(cfg.MaxConns) != printed {
			t.Errorf("descriptor limit %d: -check prints %d, the server chooses %d, err %v; want equal numbers", limit, printed, cfg.MaxConns, err)
		}
	}
}

func TestCheckExitStatusOnThisMachine(t *testing.T) {
	if status, stdout, stderr := runs(t, "-check", "-max-conns", "1"); status != exitDrained {
		t.Errorf("-max-conns 1: exit status %d, want %d\n%s%s", status, exitDrained, stdout, stderr)
	}
	if status, stdout, stderr := runs(t, "-check", "-max-conns", "2147483647"); status != exitFailed || !strings.Contains(stdout, "short") {
		t.Errorf("-max-conns 2147483647: exit status %d, want %d and a shortage\n%s%s", status, exitFailed, stdout, stderr)
	}
}
