package main

import "fmt"

// target is something that wsecho shall reach.
type target struct {
	scenario string
	text     string
	// ratio gives the figure and, if it is one, what it is a multiple of; false if there are no figures.
	value  func(*results) (value float64, detail string, known bool)
	atMost bool // the limit is the most there may be; otherwise the least
	limit  float64
	bytes  bool // the value is a number of bytes, not a ratio
}

func (t target) reached(value float64) bool {
	if t.atMost {
		return value <= t.limit
	}
	return value >= t.limit
}

func (t target) wanted() string {
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

// targets are those that one run side by side can show. The memory of a million connections is not among them.
var targets = makeTargets()

func makeTargets() (all []target) {
	for _, sc := range []string{"small", "classic", "many", "large"} {
		all = append(all, target{scenario: sc, text: "CPU a message, to `floor`'s", atMost: true, limit: 1.03,
			value: ratio(sc, named(floor), func(s summary) figure { return s.cpu })})
	}
	for _, sc := range []string{"small", "classic", "many", "pipelined", "large", "huge"} {
		all = append(all, target{scenario: sc, text: "rate, to gnet's", limit: 1.2, value: ratio(sc, named(gnet), rateOf)})
	}
	for _, sc := range []string{"classic", "many"} {
		all = append(all, target{scenario: sc, text: "rate, to the best goroutine-a-connection peer's", limit: 1.4,
			value: ratio(sc, bestOf(goroutineEach), rateOf)})
	}
	all = append(all, target{scenario: "pipelined", text: "rate, to the best goroutine-a-connection peer's", limit: 10,
		value: ratio("pipelined", bestOf(goroutineEach), rateOf)})
	for _, sc := range []string{"large", "huge"} {
		all = append(all, target{scenario: sc, text: "rate, to `floor`'s with the same buffer", limit: 1, value: ratio(sc, named(floor), rateOf)})
	}
	for _, sc := range []string{"classic", "many"} {
		all = append(all, target{scenario: sc, text: "p99, to `floor`'s", atMost: true, limit: 1,
			value: ratio(sc, named(floor), func(s summary) figure { return s.p99 })})
	}
	return append(all,
		target{scenario: "idle", text: "RSS a connection", atMost: true, limit: 150, bytes: true, value: func(r *results) (float64, string, bool) {
			x, known := tableNamed(r, "idle").of(ours)
			return x.rssEach.Median, "", known
		}},
		target{scenario: "connect", text: "rate, to the best Go peer's", limit: 1, value: ratio("connect", bestOf(otherGo), rateOf)})
}

func rateOf(s summary) figure { return s.rate }

type choice func(table) (summary, bool)

func named(name string) choice { return func(t table) (summary, bool) { return t.of(name) } }

func bestOf(meant func(server) bool) choice {
	return func(t table) (summary, bool) { return t.best(meant) }
}

// ratio is wsecho's median to another's.
func ratio(scenario string, other choice, of func(summary) figure) func(*results) (float64, string, bool) {
	return func(r *results) (float64, string, bool) {
		t := tableNamed(r, scenario)
		mine, known := t.of(ours)
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
