package main

import "fmt"

// target is a performance target of wsecho.
type target struct {
	scenario string
	text     string
	// value returns the measured value and, if it is a ratio, the server that wsecho is compared
	// with; known is false if there are no figures.
	value  func(*results) (value float64, server string, known bool)
	atMost bool // limit is a maximum; otherwise it is a minimum
	limit  float64
	bytes  bool // the value is a number of bytes, not a ratio
}

func (t target) met(value float64) bool {
	if t.atMost {
		return value <= t.limit
	}
	return value >= t.limit
}

func (t target) required() string {
	sign := "at least"
	if t.atMost {
		sign = "at most"
	}
	return sign + " " + t.format(t.limit)
}

func (t target) format(x float64) string {
	if t.bytes {
		return fmt.Sprintf("%.0f B", x)
	}
	return fmt.Sprintf("%.2f ×", x)
}

// targets are the performance targets that this program can check. The memory of a million
// connections is measured by the program million.
var targets = makeTargets()

func makeTargets() (all []target) {
	for _, sc := range []string{"small", "classic", "many", "large"} {
		all = append(all, target{scenario: sc, text: "CPU per message ÷ `floor`", atMost: true, limit: 1.03,
			value: ratio(sc, byName(floor), func(s summary) figure { return s.cpu })})
	}
	for _, sc := range []string{"small", "classic", "many", "pipelined", "large", "huge"} {
		all = append(all, target{scenario: sc, text: "rate ÷ gnet", limit: 1.2, value: ratio(sc, byName(gnet), rateOf)})
	}
	for _, sc := range []string{"classic", "many"} {
		all = append(all, target{scenario: sc, text: "rate ÷ best goroutine-per-connection peer", limit: 1.4,
			value: ratio(sc, bestOf(isGoroutineServer), rateOf)})
	}
	all = append(all, target{scenario: "pipelined", text: "rate ÷ best goroutine-per-connection peer", limit: 10,
		value: ratio("pipelined", bestOf(isGoroutineServer), rateOf)})
	for _, sc := range []string{"large", "huge"} {
		all = append(all, target{scenario: sc, text: "rate ÷ `floor` with the same buffer", limit: 1, value: ratio(sc, byName(floor), rateOf)})
	}
	for _, sc := range []string{"classic", "many"} {
		all = append(all, target{scenario: sc, text: "p99 ÷ `floor`", atMost: true, limit: 1,
			value: ratio(sc, byName(floor), func(s summary) figure { return s.p99 })})
	}
	return append(all,
		target{scenario: "idle", text: "RSS per connection", atMost: true, limit: 150, bytes: true, value: func(r *results) (float64, string, bool) {
			x, known := tableNamed(r, "idle").find(ours)
			return x.rssEach.Median, "", known
		}},
		target{scenario: "connect", text: "rate ÷ best Go peer", limit: 1, value: ratio("connect", bestOf(isGoPeer), rateOf)})
}

func rateOf(s summary) figure { return s.rate }

// selector picks a server from a table; false if the table does not have it.
type selector func(table) (summary, bool)

func byName(name string) selector { return func(t table) (summary, bool) { return t.find(name) } }

func bestOf(match func(server) bool) selector {
	return func(t table) (summary, bool) { return t.best(match) }
}

// ratio returns a function that divides wsecho's median by another server's.
func ratio(scenario string, other selector, of func(summary) figure) func(*results) (float64, string, bool) {
	return func(r *results) (float64, string, bool) {
		t := tableNamed(r, scenario)
		mine, known := t.find(ours)
		theirs, alsoKnown := other(t)
		if !known || !alsoKnown || of(theirs).Median == 0 {
			return 0, "", false
		}
		return of(mine).Median / of(theirs).Median, theirs.server.name, true
	}
}

func tableNamed(r *results, name string) table {
	sc, _ := scenarioNamed(name)
	return tableOf(r, sc)
}
