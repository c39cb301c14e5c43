package main

import (
	"cmp"
	"slices"
)

// figure is what several runs say of one quantity.
type figure struct {
	Median, Min, Max float64
	N                int // of runs
}

// figureOf is the figure of some values; N is 0 if there are none.
func figureOf(values []float64) figure {
	if len(values) == 0 {
		return figure{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return figure{median(sorted), sorted[0], sorted[len(sorted)-1], len(sorted)}
}

func median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// summary is a server in a scenario.
type summary struct {
	server   server
	failures []string
	rate     figure // a second
	cpu      figure // microseconds a message
	user     figure
	system   figure
	p50, p99 figure // microseconds
	rss      figure // bytes
	rssEach  figure // bytes a connection, beyond what there was before the first
	busy     figure // of the server's core
	genBusy  figure // of the generator's core
	genCPU   figure // the generator's microseconds a message
}

// summarize makes the figures of a server in a scenario from the runs that count.
func summarize(r *results, sc scenario, s server) summary {
	reports := r.counted(sc.name, s.name)
	of := func(value func(*report) float64) figure {
		var values []float64
		for _, x := range reports {
			values = append(values, value(x))
		}
		return figureOf(values)
	}
	return summary{
		server: s, failures: r.failures(sc.name, s.name),
		rate:    of(func(x *report) float64 { return x.Rate }),
		cpu:     of(func(x *report) float64 { return x.Server.cpu() }),
		user:    of(func(x *report) float64 { return x.Server.User }),
		system:  of(func(x *report) float64 { return x.Server.System }),
		p50:     of(func(x *report) float64 { return x.Latency.P50 }),
		p99:     of(func(x *report) float64 { return x.Latency.P99 }),
		rss:     of(func(x *report) float64 { return float64(x.Server.RSS) }),
		rssEach: of(func(x *report) float64 { return x.Server.RSSPerConnection }),
		busy:    of(func(x *report) float64 { return x.Server.CPUs }),
		genBusy: of(func(x *report) float64 { return x.Generator.CPUs }),
		genCPU:  of(func(x *report) float64 { return x.Generator.cpu() }),
	}
}

func (s summary) measured() bool { return s.rss.N > 0 }

// idleCore is a share of a core below which there was time left on it.
const idleCore = 0.95

// limitedByGenerator says that the rate is the generator's: it had no time left, and the server had.
func (s summary) limitedByGenerator() bool {
	return s.genBusy.Median >= idleCore && s.busy.Median < idleCore
}

// table is a scenario with its servers, best first.
type table struct {
	scenario scenario
	rows     []summary
}

func tableOf(r *results, sc scenario) table {
	t := table{scenario: sc}
	for _, s := range servers {
		if x := summarize(r, sc, s); x.measured() || len(x.failures) > 0 {
			t.rows = append(t.rows, x)
		}
	}
	slices.SortStableFunc(t.rows, func(a, b summary) int {
		switch {
		case a.measured() != b.measured():
			if a.measured() {
				return -1
			}
			return 1
		case sc.kind == kindIdle:
			return cmp.Compare(a.rssEach.Median, b.rssEach.Median)
		}
		return cmp.Compare(b.rate.Median, a.rate.Median)
	})
	return t
}

// of finds a server's figures; false if it has none.
func (t table) of(name string) (summary, bool) {
	for _, x := range t.rows {
		if x.server.name == name && x.measured() {
			return x, true
		}
	}
	return summary{}, false
}

// best is the one with the highest rate among those that are meant.
func (t table) best(meant func(server) bool) (summary, bool) {
	var best summary
	for _, x := range t.rows {
		if x.measured() && meant(x.server) && (!best.measured() || x.rate.Median > best.rate.Median) {
			best = x
		}
	}
	return best, best.measured()
}

func goroutineEach(s server) bool { return s.class == classGoroutine }

func otherGo(s server) bool { return s.class == classGoroutine || s.class == classLoop }
