package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"wsecho/internal/format"
)

// Charts are SVG files for light and dark pages: each draws its own background and adapts to
// prefers-color-scheme. This file writes them without a library, because we know of none that does
// this and also draws the spread of horizontal bars.

// bar is one server's value in a panel.
type bar struct {
	label    string
	class    class
	strong   bool
	parts    []float64 // drawn end to end, each paler than the one before
	min, max float64   // of the sum of the parts, over all runs
	text     string    // the value, as printed after the bar
}

// panel is a group of bars with a common axis.
type panel struct {
	title string
	bars  []bar
}

const (
	chartWidth  = 920
	margin      = 20
	barHeight   = 14
	barStep     = 20
	labelWidth  = 104
	valueWidth  = 92 // space after the longest bar, for its value
	headHeight  = 66 // title and subtitle of the chart
	titleHeight = 30 // title of a panel
	legendSpace = 40
)

const style = `
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.strong{font-weight:600}.dim{fill:#59636e}
.page{fill:#fff;stroke:#d1d9e0}.axis{stroke:#d1d9e0}.spread{stroke:#1f2328;fill:none}
.ours{fill:#0072b2}.again{fill:#56a5d3}.floor{fill:#818b98}.loop{fill:#009e73}.goroutine{fill:#d98a00}.node{fill:#b5639b}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.dim{fill:#9198a1}.page{fill:#0d1117;stroke:#3d444d}.axis{stroke:#3d444d}.spread{stroke:#e6edf3}
.ours{fill:#4aa3df}.again{fill:#27689a}.floor{fill:#7d8590}.loop{fill:#20b98e}.goroutine{fill:#e69f00}.node{fill:#cc79a7}}
`

// classStyles gives each class of server a CSS class. The colours are distinguishable for
// colour-blind readers (palette of Okabe and Ito).
var classStyles = []struct {
	class class
	style string
}{
	{classOurs, "ours"}, {classFloor, "floor"}, {classLoop, "loop"}, {classGoroutine, "goroutine"}, {classNode, "node"},
}

func (b bar) style() string {
	if b.class == classOurs && !b.strong {
		return "again"
	}
	for _, s := range classStyles {
		if s.class == b.class {
			return s.style
		}
	}
	return ""
}

// drawChart returns an SVG document with the panels in two columns.
func drawChart(title, subtitle string, panels []panel, note string) string {
	height := headHeight
	var rows []int // heights, in pixels
	for i := 0; i < len(panels); i += 2 {
		bars := len(panels[i].bars)
		if i+1 < len(panels) {
			bars = max(bars, len(panels[i+1].bars))
		}
		rows = append(rows, titleHeight+bars*barStep+14)
		height += rows[len(rows)-1]
	}
	height += legendSpace
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s"><style>%s</style>`+"\n",
		chartWidth, height, chartWidth, height, html.EscapeString(title+", "+subtitle), style)
	fmt.Fprintf(&b, `<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", chartWidth-1, height-1)
	write := func(x, y float64, class, anchor, text string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(text))
	}
	write(margin, 28, "title", "start", title)
	write(margin, 47, "dim", "start", subtitle)
	width := chartWidth - 2*margin
	if len(panels) > 1 {
		width = (chartWidth - 3*margin) / 2
	}
	y := headHeight
	for i, p := range panels {
		drawPanel(&b, p, margin+(i%2)*(width+margin), y, width, write)
		if i%2 == 1 {
			y += rows[i/2]
		}
	}
	drawLegend(&b, panels, height-18, note, write)
	b.WriteString("</svg>\n")
	return b.String()
}

func drawPanel(b *strings.Builder, p panel, left, top, width int, write func(x, y float64, class, anchor, text string)) {
	longest := 0.0
	for _, x := range p.bars {
		longest = max(longest, x.max, sum(x.parts))
	}
	if longest == 0 {
		longest = 1
	}
	zero := float64(left + labelWidth)
	scale := float64(width-labelWidth-valueWidth) / longest
	write(float64(left), float64(top+14), "strong", "start", p.title)
	bottom := top + titleHeight + len(p.bars)*barStep
	fmt.Fprintf(b, `<path class="axis" d="M%.1f %dV%d"/>`+"\n", zero, top+titleHeight-5, bottom)
	for i, x := range p.bars {
		y := top + titleHeight + i*barStep
		class := ""
		if x.strong {
			class = "strong"
		}
		write(zero-8, float64(y)+11, class, "end", x.label)
		at := zero
		for k, part := range x.parts {
			fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" fill-opacity="%.2f"/>`+"\n",
				x.style(), at, y, part*scale, barHeight, math.Pow(0.6, float64(k)))
			at += part * scale
		}
		end := at
		if x.max > x.min {
			from, to := zero+x.min*scale, zero+x.max*scale
			fmt.Fprintf(b, `<path class="spread" d="M%.1f %dH%.1fM%.1f %dv6M%.1f %dv6"/>`+"\n", from, y+7, to, from, y+4, to, y+4)
			end = max(end, to)
		}
		write(end+8, float64(y)+11, class, "start", x.text)
	}
}

func drawLegend(b *strings.Builder, panels []panel, y int, note string, write func(x, y float64, class, anchor, text string)) {
	x := float64(margin)
	for _, s := range classStyles {
		used := slices.ContainsFunc(panels, func(p panel) bool {
			return slices.ContainsFunc(p.bars, func(b bar) bool { return b.class == s.class })
		})
		if used {
			fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="11" height="11" rx="2"/>`+"\n", s.style, x, y-9)
			write(x+16, float64(y), "dim", "start", string(s.class))
			x += 34 + 6.4*float64(len(s.class))
		}
	}
	write(chartWidth-margin, float64(y), "dim", "end", note)
}

func sum(values []float64) (s float64) {
	for _, x := range values {
		s += x
	}
	return s
}

func (s summary) bar(f figure, text string, parts ...float64) bar {
	if len(parts) == 0 {
		parts = []float64{f.Median}
	}
	return bar{label: s.server.name, class: s.server.class, strong: s.server.name == ours, parts: parts, min: f.Min, max: f.Max, text: text}
}

// ratePanel returns a panel of the servers' rates in a scenario.
func ratePanel(t table, title string) panel {
	p := panel{title: title}
	for _, x := range t.rows {
		if x.measured() {
			text := rough(x.rate.Median)
			if x.limitedByGenerator() {
				text += " †"
			}
			p.bars = append(p.bars, x.bar(x.rate, text))
		}
	}
	return p
}

// scenarioChart returns a scenario's chart: rate and CPU time, or memory for idle.
func scenarioChart(r *results, t table) string {
	sub := fmt.Sprintf("%s; medians of %s, commit %s", t.scenario.title, runsText(t), r.Setting.Commit)
	const spread = "lines: minimum to maximum; † limited by the generator"
	if t.scenario.kind == kindIdle {
		each, all := panel{title: "resident memory per connection"}, panel{title: "resident memory of the server"}
		for _, x := range t.rows {
			if x.measured() {
				each.bars = append(each.bars, x.bar(x.rssEach, format.Bytes(x.rssEach.Median), max(0, x.rssEach.Median)))
				all.bars = append(all.bars, x.bar(x.rss, format.Bytes(x.rss.Median)))
			}
		}
		return drawChart(t.scenario.name, sub, []panel{each, all}, "lines: minimum to maximum")
	}
	unit := t.scenario.unit()
	cpu := panel{title: fmt.Sprintf("server CPU per %s, µs (pale: in the kernel)", unit)}
	for _, x := range t.rows {
		if x.measured() {
			cpu.bars = append(cpu.bars, x.bar(x.cpu, number(x.cpu.Median), x.user.Median, max(0, x.cpu.Median-x.user.Median)))
		}
	}
	slices.SortStableFunc(cpu.bars, func(a, b bar) int { return cmp.Compare(sum(a.parts), sum(b.parts)) })
	return drawChart(t.scenario.name, sub, []panel{ratePanel(t, unit+"s per second"), cpu}, spread)
}

// overviewScenarios are the scenarios in the README's chart.
var overviewScenarios = []string{"small", "classic", "many", "pipelined"}

func overviewChart(r *results) string {
	var panels []panel
	var tables []table
	for _, name := range overviewScenarios {
		t := tableNamed(r, name)
		tables = append(tables, t)
		panels = append(panels, ratePanel(t, t.scenario.name+": "+t.scenario.title))
	}
	sub := fmt.Sprintf("server on one core, load generator on another; medians of %s, commit %s", runsText(tables...), r.Setting.Commit)
	return drawChart("Echoed text messages per second", sub, panels, "lines: minimum to maximum; † limited by the generator")
}
