package main

import (
	"cmp"
	"slices"
)

// figure summarizes one quantity over several runs.
type figure struct {
	Median, Min, Max float64
	N                int // number of runs
}

// figureOf summarizes some values. N is 0 if there are none.
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

// summary holds the figures of a server in a scenario.
type summary struct {
	server   server
	failures []string
	rate     figure // messages or connections per second
	cpu      figure // microseconds per message
	user     figure // the part of cpu in user mode
	system   figure // the part of cpu in the kernel
	p50, p99 figure // microseconds
	rss      figure // bytes
	rssEach  figure // bytes per connection, without the memory in use before the first
	busy     figure // share of the server's core, 0 to 1
	genBusy  figure // share of the generator's core, 0 to 1
	genCPU   figure // the generator's microseconds per message
}

// summarize returns the figures of a server in a scenario, from its valid runs.
func summarize(r *results, sc scenario, s server) summary {
	reports := r.validReports(sc.name, s.name)
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

// fullCore is the share of a core from which the core counts as fully used.
const fullCore = 0.95

// limitedByGenerator reports whether the generator limited the rate: it used its whole core, and
// the server did not.
func (s summary) limitedByGenerator() bool {
	return s.genBusy.Median >= fullCore && s.busy.Median < fullCore
}

// table holds the summaries of a scenario's servers, best first.
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

// find returns a server's figures; false if it has none.
func (t table) find(name string) (summary, bool) {
	for _, x := range t.rows {
		if x.server.name == name && x.measured() {
			return x, true
		}
	}
	return summary{}, false
}

// best returns the server with the highest rate among those that match; false if there is none.
func (t table) best(match func(server) bool) (summary, bool) {
	var best summary
	for _, x := range t.rows {
		if x.measured() && match(x.server) && (!best.measured() || x.rate.Median > best.rate.Median) {
			best = x
		}
	}
	return best, best.measured()
}

func isGoroutineServer(s server) bool { return s.class == classGoroutine }

func isGoPeer(s server) bool { return s.class == classGoroutine || s.class == classLoop }
