// Package prometheus tests the alerting rules and the dashboard in deploy with Prometheus's own
// parser, against the metrics of a real server.
package prometheus

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const soon = 30 * time.Second

// scraped maps each metric of a server that has echoed one message to its labels and their values.
var scraped = map[string]map[string][]string{
	"up": {}, // added by Prometheus
}

func TestMain(m *testing.M) {
	if err := scrape(); err != nil {
		fmt.Fprintln(os.Stderr, "scrape:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// scrape runs a server and reads its metrics.
func scrape() error {
	dir, err := os.MkdirTemp("", "wsecho-rules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "wsecho")
	build := exec.Command("go", "build", "-o", bin, "wsecho/cmd/server")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	server := exec.Command(bin, "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log", "json")
	log, err := server.StderrPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer server.Process.Signal(syscall.SIGTERM)
	var serving struct {
		Listen []string
		Admin  string
	}
	lines := bufio.NewScanner(log)
	for serving.Admin == "" && lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &serving); err != nil {
			return fmt.Errorf("%w in %q", err, lines.Text())
		}
	}
	if serving.Admin == "" {
		return fmt.Errorf("the server did not log the address of its admin server")
	}
	if err := echo(serving.Listen[0]); err != nil {
		return err
	}
	client := http.Client{Timeout: soon}
	response, err := client.Get("http://" + serving.Admin + "/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text := expfmt.NewTextParser(model.UTF8Validation)
	families, err := text.TextToMetricFamilies(response.Body)
	if err != nil {
		return err
	}
	for name, family := range families {
		for _, name := range seriesOf(name, family) {
			scraped[name] = labelsOf(family)
		}
	}
	return nil
}

// echo echoes one message, so that counters are not zero.
func echo(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85\x00\x00\x00\x00hello")); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if _, err := http.ReadResponse(r, nil); err != nil {
		return err
	}
	_, err = r.ReadString('o')
	return err
}

// seriesOf returns the names of a family's series.
func seriesOf(name string, family *dto.MetricFamily) []string {
	switch family.GetType() {
	case dto.MetricType_SUMMARY:
		return []string{name, name + "_sum", name + "_count"}
	case dto.MetricType_HISTOGRAM:
		return []string{name + "_bucket", name + "_sum", name + "_count"}
	}
	return []string{name}
}

func labelsOf(family *dto.MetricFamily) map[string][]string {
	values := map[string][]string{}
	for _, m := range family.Metric {
		for _, l := range m.Label {
			values[l.GetName()] = append(values[l.GetName()], l.GetValue())
		}
	}
	return values
}

func TestRules(t *testing.T) {
	content, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	rules := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			rules++
			t.Run(r.Alert, func(t *testing.T) {
				names := checkExpr(t, r.Expr)
				if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
					t.Error("want a severity label and a summary annotation")
				}
				for _, text := range r.Annotations {
					for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
						wantsLabel(t, names, l[1])
					}
				}
			})
		}
	}
	if rules < 5 {
		t.Errorf("got %d rules, want at least 5", rules)
	}
}

func TestDashboard(t *testing.T) {
	content, err := os.ReadFile("../../deploy/grafana/wsecho.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Type, Name, Definition string }
		}
		Annotations struct {
			List []struct{ Expr, TitleFormat string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	// Values for Grafana's variables.
	filled := strings.NewReplacer("$__rate_interval", "1m", "$job", "wsecho", "$instance", "localhost:6060")
	legend := regexp.MustCompile(`{{\s*(\w+)\s*}}`)
	exprs := 0
	try := func(t *testing.T, expr, legendFormat string) {
		t.Helper()
		exprs++
		names := checkExpr(t, filled.Replace(expr))
		for _, l := range legend.FindAllStringSubmatch(legendFormat, -1) {
			wantsLabel(t, names, l[1])
		}
	}
	for _, p := range dashboard.Panels {
		t.Run(p.Title, func(t *testing.T) {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Error("the panel has no targets")
			}
			for _, target := range p.Targets {
				try(t, target.Expr, target.LegendFormat)
			}
		})
	}
	for _, a := range dashboard.Annotations.List {
		try(t, a.Expr, a.TitleFormat)
	}
	variable := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range dashboard.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := variable.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("variable %s: got definition %q, want label_values(metric, label)", v.Name, v.Definition)
			continue
		}
		wantsLabel(t, checkExpr(t, filled.Replace(m[1])), m[2])
	}
	if exprs < 20 {
		t.Errorf("got %d expressions, want at least 20", exprs)
	}
}

// checkExpr parses an expression and checks that the server has its metrics and labels. It returns
// the names of the metrics.
func checkExpr(t *testing.T, expr string) (names []string) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return nil
	}
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			names = append(names, s.Name)
			wantsSelector(t, s)
		}
		return nil
	})
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			for _, l := range n.Grouping {
				wantsLabel(t, names, l)
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				for _, l := range n.VectorMatching.MatchingLabels {
					wantsLabel(t, names, l)
				}
			}
		}
		return nil
	})
	if len(names) == 0 {
		t.Errorf("%s: the expression has no metric", expr)
	}
	return names
}

func wantsSelector(t *testing.T, s *parser.VectorSelector) {
	t.Helper()
	has, ok := scraped[s.Name]
	if !ok {
		t.Errorf("%s: the server does not have this metric", s.Name)
		return
	}
	for _, m := range s.LabelMatchers {
		if ofTarget(m.Name) || m.Name == model.MetricNameLabel {
			continue
		}
		// An excluded value must exist too, or the matcher would exclude nothing.
		wanted := labels.MustNewMatcher(m.Type, m.Name, m.Value)
		if m.Type == labels.MatchNotEqual {
			wanted = labels.MustNewMatcher(labels.MatchEqual, m.Name, m.Value)
		}
		if !slices.ContainsFunc(has[m.Name], wanted.Matches) {
			t.Errorf("%s: no value matches %v, got %q", s, m, has[m.Name])
		}
	}
}

// wantsLabel checks that one of the metrics has the label.
func wantsLabel(t *testing.T, names []string, label string) {
	t.Helper()
	if ofTarget(label) {
		return
	}
	if !slices.ContainsFunc(names, func(name string) bool { return scraped[name][label] != nil }) {
		t.Errorf("want a label %[2]s on one of %[1]q", names, label)
	}
}

// ofTarget reports whether Prometheus adds the label to all metrics that it scrapes.
func ofTarget(label string) bool { return label == "job" || label == "instance" }
