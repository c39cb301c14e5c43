package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"wsecho/internal/format"
)

// writePage returns the page with all tables, docs/benchmarks/results.md.
func writePage(r *results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\nThis page is written by `make bench`. [README.md](README.md) describes the method and the servers; the raw data are in [%s](%s).\n\n", resultsFile, resultsFile)
	fmt.Fprintf(&b, "Commit %s, %s. %v.\nEach run was measured for %s, after a warm-up of %v.\n\n", r.Setting.Commit, runDates(r), r.Setting.Machine, r.Setting.Duration, warmup)
	b.WriteString("Every figure is the median of its runs, with minimum and maximum in parentheses. Ratios are ratios of medians.\n\n")
	b.WriteString("## Targets\n\n" + targetTable(r) + "\n")
	for _, sc := range scenarios {
		if t := tableOf(r, sc); len(t.rows) > 0 {
			fmt.Fprintf(&b, "## %s: %s\n\n![%s](%s.svg)\n\n%s\n", sc.name, sc.title, sc.name, sc.name, scenarioTable(r, t))
		}
	}
	b.WriteString("## Versions\n\n| server | version |\n| --- | --- |\n")
	for _, s := range servers {
		if version := r.Setting.Versions[s.name]; version != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", s.name, version)
		}
		if reason := r.Setting.Absent[s.name]; reason != "" {
			fmt.Fprintf(&b, "| %s | not measured: %s |\n", s.name, oneLine(reason))
		}
	}
	return b.String()
}

// runDates returns the date of the runs, or the first and the last.
func runDates(r *results) string {
	if len(r.Runs) == 0 {
		return "no runs"
	}
	first, last := r.Runs[0].Began, r.Runs[0].Began
	for _, x := range r.Runs {
		if x.Began.Before(first) {
			first = x.Began
		}
		if x.Began.After(last) {
			last = x.Began
		}
	}
	from, to := first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly)
	if from == to {
		return from
	}
	return from + " to " + to
}

func targetTable(r *results) string {
	var b strings.Builder
	b.WriteString("| scenario | target | required | measured | result |\n| --- | --- | --- | --- | --- |\n")
	for _, t := range targets {
		measured, verdict := "not measured", ""
		if value, detail, known := t.value(r); known {
			measured, verdict = t.format(value), "missed"
			if detail != "" && !strings.Contains(t.text, detail) {
				measured += " (" + detail + ")"
			}
			if t.met(value) {
				verdict = "met"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", t.scenario, t.text, t.required(), measured, verdict)
	}
	return b.String()
}

// scenarioTable returns a scenario's table, with notes on noise, limits and failures.
func scenarioTable(r *results, t table) string {
	var b strings.Builder
	switch t.scenario.kind {
	case kindIdle:
		writeIdleTable(&b, t)
	default:
		writeRateTable(&b, t)
	}
	b.WriteString("\n")
	writeNotes(&b, r, t)
	return b.String()
}

func writeRateTable(b *strings.Builder, t table) {
	unit := t.scenario.unit()
	fmt.Fprintf(b, "| server | %ss per second | rate ÷ floor | rate ÷ best goroutine | rate ÷ gnet | CPU per %s, µs | user + system | CPU ÷ floor | p50 | p99 | RSS per connection | core use: server, generator | generator CPU, µs |\n", unit, unit)
	b.WriteString("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n")
	least, hasFloor := t.find(floor)
	goroutine, hasGoroutine := t.best(isGoroutineServer)
	loop, hasLoop := t.find(gnet)
	to := func(x, y figure, has bool) string {
		if !has || y.Median == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f", x.Median/y.Median)
	}
	for _, x := range t.rows {
		if !x.measured() {
			fmt.Fprintf(b, "| %s | failed | | | | | | | | | | | |\n", x.server.name)
			continue
		}
		mark := ""
		if x.limitedByGenerator() {
			mark = " †"
		}
		rss := format.Bytes(x.rssEach.Median)
		if t.scenario.kind == kindConnect {
			rss = "" // no connection is open at the end
		}
		fmt.Fprintf(b, "| %s | %s%s | %s | %s | %s | %s | %s + %s | %s | %s | %s | %s | %.2f, %.2f | %s |\n",
			bold(x.server), spread(x.rate, number), mark,
			to(x.rate, least.rate, hasFloor), to(x.rate, goroutine.rate, hasGoroutine), to(x.rate, loop.rate, hasLoop),
			spread(x.cpu, number), number(x.user.Median), number(x.system.Median),
			to(x.cpu, least.cpu, hasFloor),
			timeText(x.p50.Median), spread(x.p99, timeText),
			rss, x.busy.Median, x.genBusy.Median, number(x.genCPU.Median))
	}
}

func writeIdleTable(b *strings.Builder, t table) {
	b.WriteString("| server | RSS per connection | RSS of the server |\n| --- | --: | --: |\n")
	for _, x := range t.rows {
		if !x.measured() {
			fmt.Fprintf(b, "| %s | failed | |\n", x.server.name)
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", bold(x.server), spread(x.rssEach, format.Bytes[float64]), spread(x.rss, format.Bytes[float64]))
	}
}

// writeNotes writes what a reader must know about the figures: noise, generator limits and
// failures.
func writeNotes(b *strings.Builder, r *results, t table) {
	a, known := t.find(ours)
	again, alsoKnown := t.find(control)
	if known && alsoKnown {
		if t.scenario.kind == kindIdle {
			fmt.Fprintf(b, "Noise: %s, the same program as %s, differs from it by %s.\n", control, ours, percent(again.rssEach.Median/a.rssEach.Median))
		} else {
			fmt.Fprintf(b, "Noise: %s, the same program as %s, differs from it by %s in rate, %s in CPU and %s in p99.\n", control, ours,
				percent(again.rate.Median/a.rate.Median), percent(again.cpu.Median/a.cpu.Median), percent(again.p99.Median/a.p99.Median))
		}
	}
	if slices.ContainsFunc(t.rows, summary.limitedByGenerator) {
		b.WriteString("† The generator used its whole core and the server did not: the rate is limited by the generator, and the server could be faster. CPU per message is not affected.\n")
	}
	mean, most := r.disturbance(t.scenario.name)
	fmt.Fprintf(b, "%s of each server. Meanwhile other processes and the hypervisor used %.2f CPUs on average, %.2f in the worst run", runsText(t), mean, most)
	if n := r.repeated(t.scenario.name); n > 0 {
		fmt.Fprintf(b, "; %d runs were repeated because of this", n)
	}
	b.WriteString(".\n")
	for _, x := range t.rows {
		if len(x.failures) > 0 {
			fmt.Fprintf(b, "\n%s failed in %d of %d runs, which are excluded. First failure: %s\n", x.server.name, len(x.failures), len(x.failures)+x.rate.N, oneLine(x.failures[0]))
		}
	}
}

// writeOverview returns the README's section: the main figures, and how to reproduce them.
func writeOverview(r *results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "![messages per second in four scenarios](docs/benchmarks/overview.svg)\n\n")
	b.WriteString("Messages per second · microseconds of server CPU per message:\n\n| server |")
	var shown []table
	for _, sc := range scenarios {
		if t := tableOf(r, sc); len(t.rows) > 0 {
			shown = append(shown, t)
			fmt.Fprintf(&b, " %s |", sc.name)
		}
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --: |", len(shown)) + "\n")
	for _, s := range servers {
		row, some := "| "+bold(s)+" |", false
		for _, t := range shown {
			x, measured := t.find(s.name)
			some = some || measured
			switch {
			case !measured:
				row += " |"
			case t.scenario.kind == kindIdle:
				row += " " + format.Bytes(x.rssEach.Median) + " |"
			default:
				row += " " + rough(x.rate.Median) + " · " + number(x.cpu.Median) + " |"
			}
		}
		if some {
			b.WriteString(row + "\n")
		}
	}
	b.WriteString("\n")
	for _, t := range shown {
		fmt.Fprintf(&b, "%s: %s. ", t.scenario.name, t.scenario.title)
	}
	met, known := 0, 0
	for _, t := range targets {
		if value, _, measured := t.value(r); measured {
			known++
			if t.met(value) {
				met++
			}
		}
	}
	fmt.Fprintf(&b, "In idle, the figure is resident memory per connection; in connect, the rate counts connections, not messages.\n\n")
	fmt.Fprintf(&b, "Medians of %s, with one core for the server and one for `bin/wsload`, on %s. `%s` is the same program as `%s`, to show the noise; `%s` is a minimal C program that checks nothing.\n",
		runsText(shown...), r.Setting.Machine.CPU, control, ours, floor)
	fmt.Fprintf(&b, "%d of %d [targets](docs/benchmarks/results.md#targets) are met. Spreads, latencies and ratios are in [results.md](docs/benchmarks/results.md), the method in [docs/benchmarks/README.md](docs/benchmarks/README.md). `make bench` repeats the measurement.\n", met, known)
	return b.String()
}

// runsText returns the number of runs behind the figures of some tables, as text.
func runsText(tables ...table) string {
	least, most := math.MaxInt, 0
	for _, t := range tables {
		for _, x := range t.rows {
			if x.measured() {
				least, most = min(least, x.rate.N), max(most, x.rate.N)
			}
		}
	}
	switch {
	case least < most:
		return fmt.Sprintf("%d to %d runs", least, most)
	case most == 1:
		return "1 run"
	}
	return fmt.Sprintf("%d runs", most)
}

// spread returns a figure's median, followed by minimum and maximum if there are several runs.
func spread(f figure, text func(float64) string) string {
	if f.N < 2 {
		return text(f.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", text(f.Median), text(f.Min), text(f.Max))
}

func bold(s server) string {
	if s.name == ours {
		return "**" + s.name + "**"
	}
	return s.name
}

// percent returns the difference between a ratio and 1, in percent.
func percent(ratio float64) string { return percentOf(math.Abs(ratio - 1)) }

func percentOf(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }

// number formats x with three digits, or with thousands separators if it is 100 or more.
func number(x float64) string {
	switch {
	case x >= 100:
		return format.Thousands(int64(math.Round(x)))
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// rough formats x with three digits, and the suffix k or M if it is large.
func rough(x float64) string {
	switch {
	case x >= 999.5e3:
		return fmt.Sprintf("%.2fM", x/1e6)
	case x >= 99.95e3:
		return fmt.Sprintf("%.0fk", x/1e3)
	case x >= 9.995e3:
		return fmt.Sprintf("%.1fk", x/1e3)
	}
	return number(x)
}

// timeText formats a time that is given in microseconds.
func timeText(us float64) string {
	switch {
	case us >= 1e6:
		return number(us/1e6) + " s"
	case us >= 1e3:
		return number(us/1e3) + " ms"
	}
	return number(us) + " µs"
}

// oneLine makes text from other programs fit into a table cell: one line of at most 200 characters,
// without "|".
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(text, "|", "/")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + " …"
	}
	return text
}
