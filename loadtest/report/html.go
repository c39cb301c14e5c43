package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"

	"wsecho/loadtest/stats"
)

// A Page is the file of -html. It is opened before the run, so that a path that cannot be written
// is an error before the measurement. A nil Page writes nothing.
type Page struct {
	file    *os.File
	created bool // by OpenPage, and nothing has been written
}

// OpenPage opens the file at path. If path is empty, it returns nil. Its error does not name the
// path.
func OpenPage(path string) (p *Page, err error) {
	if path == "" {
		return nil, nil
	}
	p = &Page{}
	const flags = os.O_WRONLY | syscall.O_NONBLOCK // opening a FIFO without a reader fails instead of blocking
	if p.file, err = os.OpenFile(path, flags, 0); errors.Is(err, fs.ErrNotExist) {
		p.file, err = os.OpenFile(path, flags|os.O_CREATE, 0o644)
		p.created = err == nil
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err // the caller names the path
	}
	return p, err
}

// Abandon closes the file if Write has not closed it. It removes a file that OpenPage has created,
// and does not change a file that existed before.
func (p *Page) Abandon() {
	if p == nil || p.file == nil {
		return
	}
	p.file.Close()
	if p.created {
		os.Remove(p.file.Name())
	}
}

// Write writes the report as a self-contained page, with the charts as SVG, and closes the file.
// Its error does not name the path.
func (p *Page) Write(r *Report) error {
	if p == nil {
		return nil
	}
	text, err := renderHTML(r)
	if err != nil {
		return err
	}
	p.created = false
	_ = p.file.Truncate(0) // fails only for special files, which need no truncation
	_, err = p.file.Write(text)
	err = errors.Join(err, p.file.Close())
	p.file = nil
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return err
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("report").Parse(pageText))

// A picture is a chart with its title and caption.
type picture struct {
	Title, Caption string
	Curves         []string // their names, if there are several
	SVG            template.HTML
}

func renderHTML(r *Report) ([]byte, error) {
	var pictures []picture
	for _, draw := range []func(*Report) (picture, *chartdraw.Chart){
		drawRate, drawLatency, drawDistribution, drawConnections, drawCPU,
	} {
		p, chart := draw(r)
		if chart == nil {
			continue // nothing to show
		}
		svg, err := render(chart)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Title, err)
		}
		p.SVG = svg
		for _, curve := range chart.Series {
			if len(chart.Series) > 1 {
				p.Curves = append(p.Curves, curve.GetName())
			}
		}
		pictures = append(pictures, p)
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, map[string]any{
		"Report": r, "Headline": r.headline(), "Loop": r.loopLine(), "Rows": r.rows(), "Pictures": pictures, "Settings": r.settings,
	})
	return b.Bytes(), err
}

func render(c *chartdraw.Chart) (template.HTML, error) {
	c.Width, c.Height = 920, 300
	c.Background.Padding = chartdraw.NewBox(16, 32, 24, 16)
	c.YAxisSecondary.Style.Hidden = true
	c.Background.FillColor, c.Canvas.FillColor = paper, paper
	c.YAxis.GridMajorStyle = chartdraw.Style{StrokeColor: grid, StrokeWidth: 1}
	axis := chartdraw.Style{StrokeColor: grid, FontStyle: chartdraw.FontStyle{FontColor: ink}}
	c.XAxis.Style, c.YAxis.Style, c.XAxis.NameStyle, c.YAxis.NameStyle = axis, axis, axis, axis
	var b bytes.Buffer
	if err := c.Render(chartdraw.SVG, &b); err != nil {
		return "", err
	}
	return template.HTML(themed.Replace(b.String())), nil
}

// The colours in which charts are drawn stand for properties of the page's style, which has a light
// and a dark value for each.
var (
	paper = drawing.ColorFromHex("010101")
	ink   = drawing.ColorFromHex("020202")
	grid  = drawing.ColorFromHex("030303")

	colours = []drawing.Color{
		drawing.ColorFromHex("040404"), drawing.ColorFromHex("050505"), drawing.ColorFromHex("060606"), drawing.ColorFromHex("070707"), drawing.ColorFromHex("080808"),
	}

	themed = strings.NewReplacer(
		paper.String(), "var(--paper)", ink.String(), "var(--ink)", grid.String(), "var(--grid)",
		colours[0].String(), "var(--curve1)", colours[1].String(), "var(--curve2)", colours[2].String(), "var(--curve3)",
		colours[3].String(), "var(--curve4)", colours[4].String(), "var(--curve5)",
	)
)

// drawDistribution draws latency over percentile. The percentile axis is logarithmic (90, 99, 99.9,
// … are equidistant), so that the tail is visible.
func drawDistribution(r *Report) (picture, *chartdraw.Chart) {
	p := picture{Title: "Distribution: where does the tail begin?",
		Caption: "The percentage of messages that had at most this latency. A flat line is good; a step up shows how rare the slow messages are. Both axes are logarithmic; the horizontal one has steps of 90, 99, 99.9, … %."}
	if r.Latency.Count < 2 {
		return p, nil
	}
	nines := curve{name: "latency"}
	most := math.Log10(float64(r.Latency.Count)) // the highest percentile, in nines
	for _, b := range r.distribution {
		n := most
		if b.Quantile < 100 {
			n = min(most, -math.Log10(1-b.Quantile/100))
		}
		nines.add(n, logOf(float64(b.ValueAt)/1e3))
	}
	var ticks []chartdraw.Tick
	for _, at := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999, 99.99999} {
		if n := -math.Log10(1 - at/100); n <= most-0.4 { // closer to max, the labels would overlap
			ticks = append(ticks, chartdraw.Tick{Value: n, Label: fmt.Sprint(at)})
		}
	}
	ticks = append(ticks, chartdraw.Tick{Value: most, Label: "max"})
	return p, &chartdraw.Chart{
		XAxis:  chartdraw.XAxis{Name: "percentile", Ticks: ticks},
		YAxis:  named("latency", logAxis(nines)),
		Series: []chartdraw.Series{nines.series(0)},
	}
}

func drawRate(r *Report) (picture, *chartdraw.Chart) {
	p := picture{Title: "Rate: is it steady?", Caption: "Verified replies per second in each interval. A dip is a pause of the server, the network or this generator; compare it with the CPUs below."}
	rate := curve{name: "replies per second"}
	for _, x := range r.Series {
		rate.add(x.At, x.Rate)
	}
	return p, timeChart(r, named("replies per second", axisOf(func(y float64) string { return number(y) }, rate)), rate)
}

func drawLatency(r *Report) (picture, *chartdraw.Chart) {
	p := picture{Title: "Latency over time: does the tail grow?", Caption: "Percentiles of the replies in each interval. Lines that rise show a queue that grows; lines that stay apart show a few slow messages. The vertical axis is logarithmic."}
	p50, p90, p99, p999, most := curve{name: "p50"}, curve{name: "p90"}, curve{name: "p99"}, curve{name: "p99.9"}, curve{name: "max"}
	for _, x := range r.Series {
		if x.P50 > 0 { // the interval has replies
			p50.add(x.At, logOf(x.P50))
			p90.add(x.At, logOf(x.P90))
			p99.add(x.At, logOf(x.P99))
			p999.add(x.At, logOf(x.P999))
			most.add(x.At, logOf(x.Max))
		}
	}
	return p, timeChart(r, named("latency", logAxis(p50, p90, p99, p999, most)), p50, p90, p99, p999, most)
}

// logOf returns the decimal logarithm of a latency in microseconds, or that of the lowest latency
// that is measured.
func logOf(us float64) float64 { return math.Log10(max(stats.LowestLatency/1e3, us)) }

func drawConnections(r *Report) (picture, *chartdraw.Chart) {
	p := picture{Title: "Connections and errors: did all stay open?", Caption: "Open connections, and the total number of errors so far, up to the end of the measured time."}
	open, errors := curve{name: "open connections"}, curve{name: "errors"}
	for _, x := range r.Series {
		open.add(x.At, float64(x.Open))
		errors.add(x.At, float64(x.Errors))
	}
	return p, timeChart(r, named("number", axisOf(func(y float64) string { return number(y) }, open, errors)), open, errors)
}

func drawCPU(r *Report) (picture, *chartdraw.Chart) {
	p := picture{Title: "CPUs in use: who was the limit?", Caption: "If the generator has used all CPUs that it may use, it may have limited the rate."}
	own, server := curve{name: "generator"}, curve{name: "server"}
	for _, x := range r.Series {
		own.add(x.At, x.Own)
		server.add(x.At, x.Server)
	}
	curves := []curve{own}
	if r.Server != nil {
		curves = append(curves, server)
	}
	return p, timeChart(r, named("CPUs", axisOf(func(y float64) string { return fmt.Sprintf("%.2f", y) }, curves...)), curves...)
}

// A curve is a line in a chart.
type curve struct {
	name string
	x, y []float64
}

func (c *curve) add(x, y float64) { c.x, c.y = append(c.x, x), append(c.y, y) }

func (c curve) series(i int) chartdraw.Series {
	return chartdraw.ContinuousSeries{
		Name: c.name, XValues: c.x, YValues: c.y,
		Style: chartdraw.Style{StrokeColor: colours[i], StrokeWidth: 2},
	}
}

// timeChart returns a chart of curves over time, or nil if there are fewer than two points.
func timeChart(r *Report, y chartdraw.YAxis, curves ...curve) *chartdraw.Chart {
	c := &chartdraw.Chart{YAxis: y}
	c.XAxis.Name = "time since the measurement began"
	for i, curve := range curves {
		if len(curve.x) < 2 {
			return nil
		}
		c.Series = append(c.Series, curve.series(i))
	}
	x := curves[0].x
	first, last := x[0], x[len(x)-1]
	if first >= last {
		return nil
	}
	step := roundUp((last - first) / 8)
	for n := int(math.Floor(first / step)); float64(n-1)*step < last; n++ { // the axis extends from the first tick to the last
		c.XAxis.Ticks = append(c.XAxis.Ticks, chartdraw.Tick{Value: float64(n) * step, Label: fmt.Sprintf("%.4g s", float64(n)*step)})
	}
	return c
}

// named returns an axis with a name.
func named(name string, a chartdraw.YAxis) chartdraw.YAxis {
	a.Name = name
	return a
}

// axisOf returns an axis from 0 to above the maximum of the curves.
func axisOf(label func(float64) string, curves ...curve) (a chartdraw.YAxis) {
	highest := 0.0
	for _, c := range curves {
		for _, y := range c.y {
			highest = max(highest, y)
		}
	}
	if highest == 0 {
		highest = 1
	}
	step := roundUp(highest / 5)
	for n := range int(math.Ceil(highest*1.02/step)) + 1 {
		a.Ticks = append(a.Ticks, chartdraw.Tick{Value: float64(n) * step, Label: label(float64(n) * step)})
	}
	return a
}

// logAxis returns an axis for decimal logarithms of microseconds.
func logAxis(curves ...curve) (a chartdraw.YAxis) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, y := range c.y {
			low, high = min(low, y), max(high, y)
		}
	}
	if low > high {
		return a // no curve has a point, so there is no chart
	}
	for decade := int(math.Floor(low)); float64(decade) <= high+1; decade++ {
		for _, digit := range []float64{1, 2, 5} {
			tick := chartdraw.Tick{
				Value: float64(decade) + math.Log10(digit),
				Label: short(math.Pow10(decade) * digit * 1.0001), // prevents rounding down to the next smaller unit
			}
			if tick.Value <= low {
				a.Ticks = a.Ticks[:0] // the axis begins at the last tick below the minimum
			}
			if a.Ticks = append(a.Ticks, tick); tick.Value > high {
				return a
			}
		}
	}
	return a
}

// roundUp returns the least number that is at least x and 1, 2 or 5 times a power of ten.
func roundUp(x float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(x)))
	for _, digit := range []float64{1, 2, 5} {
		if digit*decade >= x {
			return digit * decade
		}
	}
	return 10 * decade
}
