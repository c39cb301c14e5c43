package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wsecho/loadtest/report"
	"wsecho/loadtest/stats"
	"wsecho/loadtest/wire"
)

func TestFlagsAndEnvironment(t *testing.T) {
	t.Setenv("WSLOAD_URL", "ws://example.com/path?q")
	t.Setenv("WSLOAD_CONNECTIONS", "7")
	t.Setenv("WSLOAD_FAIL_IF", "p99>5ms, errors>0")
	t.Setenv("WSLOAD_JSON", "true")
	t.Setenv("WSLOAD_VERSION", "1.2.3") // set by some deployments, and ignored
	s, err := parse([]string{"-connections", "3", "-payload", "128:90,64KiB:10", "-source", "3", "-rate", "10/s"})
	if err != nil {
		t.Fatal(err)
	}
	if s.connections != 3 || s.url != "ws://example.com/path?q" || !s.json || s.rate != 10 || s.version {
		t.Errorf("got settings %+v", s)
	}
	if s.payload.String() != "128:90,64KiB:10" || s.sources.String() != "127.0.0.1,127.0.0.2,127.0.0.3" || s.failIf.String() != "p99>5ms,errors>0" {
		t.Errorf("got payload %v, sources %v, conditions %v", s.payload, s.sources, s.failIf)
	}
}

// Errors name the flag or variable, its value and the reason.
func TestFlagErrors(t *testing.T) {
	for args, wants := range map[string][]string{
		"-connections 0":                      {"-connections", `"0"`, "between 1 and"},
		"-connections many":                   {"-connections", `"many"`, "not an integer"},
		"-url http://x/":                      {"-url", `"http://x/"`, "ws://host:port/path"},
		"-url wss://x/":                       {"-url", `"wss://x/"`, "TLS"},
		"-mode soak":                          {"-mode", `"soak"`, "echo, idle, connect"},
		"-payload 1KB":                        {"-payload", `"1KB"`, "size in bytes"},
		"-payload 65MiB":                      {"-payload", `"65MiB"`, "between 0 and 64MiB"},
		"-payload 1:0":                        {"-payload", `"1:0"`, `weight "0"`},
		"-payload 1:600,2:600":                {"-payload", "weights of 1200"},
		"-type json":                          {"-type", `"json"`, "binary, text, unicode"},
		"-rate fast":                          {"-rate", `"fast"`, "not a number"},
		"-rate -1":                            {"-rate", `"-1"`, "between"},
		"-duration 10":                        {"-duration", `"10"`, "not a duration"},
		"-source 127.0.0.1,x":                 {"-source", `"127.0.0.1,x"`, "IP addresses"},
		"-source 127.0.0.1,":                  {"-source", "empty item"},
		"-source 70000":                       {"-source", `"70000"`, "between"},
		"-inflight 0":                         {"-inflight", `"0"`},
		"-interval 1ms":                       {"-interval", `"1ms"`},
		"-fail-if p98>5ms":                    {"-fail-if", `"p98>5ms"`, "p99.9"},
		"-fail-if p99=5ms":                    {"-fail-if", `"p99=5ms"`, "such as p99>5ms"},
		"-fail-if p99>5":                      {"-fail-if", `"p99>5"`, "no time"},
		"-fail-if errors>few":                 {"-fail-if", `"errors>few"`, "no number"},
		"-fail-if cpu>5us":                    {"-fail-if", "cpu>5us", "-pid"},
		"-mode idle -rate 5":                  {"-rate", "5", "idle"},
		"-mode connect -inflight 2":           {"-inflight", "2", "connect"},
		"-no-such-flag":                       {"-no-such-flag"},
		"-url ws://x/ ws://y/":                {`"ws://y/"`, "also given by -url"},
		"ws://x/ -json ws://y/":               {`"ws://y/"`, "the only argument"},
		"-json x":                             {`argument "x"`, "ws://host:port/path"},
		"https://x/":                          {`argument "https://x/"`, "TLS"},
		"-url ws://x:0/":                      {"-url", "port 0", "between 1 and 65535"},
		"-url ws://x:65536/":                  {"-url", "port 65536"},
		"-url ws://bücher.example/":           {"-url", "xn--"},
		"-url ws://a%3Ab:c@x/":                {"-url", "colon in its user name"},
		"-url ws://a:b%0A@x/":                 {"-url", "control character"},
		"-header x":                           {"-header", `"x"`, "'Name: value'"},
		"-header a(:b":                        {"-header", `"a("`, "token"},
		"-header :b":                          {"-header", `""`, "token"},
		"-header X:a\x01b":                    {"-header", "control character"},
		"-header X:\x00":                      {"-header", "control character"},
		"-header connection:close":            {"-header", "connection:close", "wsload sets it"},
		"-header UPGRADE:x":                   {"-header", "wsload sets it"},
		"-header Sec-WebSocket-Key:x":         {"-header", "wsload sets it"},
		"-header sec-websocket-version:8":     {"-header", "wsload sets it"},
		"-header Sec-WebSocket-Protocol:x":    {"-header", "-subprotocol"},
		"-header Sec-WebSocket-Extensions:x":  {"-header", "extension"},
		"-header Sec-WebSocket-Accept:x":      {"-header", "RFC 6455"},
		"-header Content-Length:5":            {"-header", "no content"},
		"-header Transfer-Encoding:chunked":   {"-header", "no content"},
		"-header Host:a -header host:b":       {"-header", "twice"},
		"-header Authorization:a ws://u:p@x/": {"-header", "Authorization", "in the URL as well"},
		"-header X:" + strings.Repeat("x", wire.LongestRequest): {"-header", "bytes long, the limit is 16384"},
		"ws://x/" + strings.Repeat("x", wire.LongestRequest):    {"-url", "bytes long, the limit is 16384"},
		"-subprotocol a,a":                    {"-subprotocol", `"a" twice`},
		"-subprotocol a,b/c":                  {"-subprotocol", `"b/c"`, "token"},
		"-subprotocol a,":                     {"-subprotocol", "empty item"},
		"-greeting=x":                         {"-greeting", `"x"`, "integer"},
		"-greeting 101":                       {"-greeting", `"101"`, "between 0 and 100"},
		"-fail-if errors>NaN":                 {"-fail-if", "no number"},
		"-fail-if rate<Inf":                   {"-fail-if", "no number"},
		"-mode idle -fail-if rate<5":          {"-fail-if", "rate", "idle"},
		"-mode idle -pid 1 -fail-if cpu>5us":  {"-fail-if", "cpu", "idle"},
		"-connections 4000000 -inflight 4096": {"-inflight", "4096", "outstanding"},
	} {
		r := wsloadText(t, strings.Fields(args)...)
		if r.status != exitUsage || r.stdout != "" {
			t.Errorf("%s: got exit status %d and stdout %q, want %d and no output", args, r.status, r.stdout, exitUsage)
		}
		for _, want := range wants {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: got %q, want it to contain %s", args, r.stderr, want)
			}
		}
	}
	t.Setenv("WSLOAD_RAMP", "steep")
	if r := wsloadText(t); r.status != exitUsage || !strings.Contains(r.stderr, "WSLOAD_RAMP") || !strings.Contains(r.stderr, "steep") {
		t.Errorf("WSLOAD_RAMP=steep: got exit status %d, %q", r.status, r.stderr)
	}
}

// -h and docs/load.md describe every flag, kind of error and metric.
func TestHelpAndDocumentAreComplete(t *testing.T) {
	doc, err := os.ReadFile("../docs/load.md")
	if err != nil {
		t.Fatal(err)
	}
	var explained bytes.Buffer
	help(&explained)
	_, fs := newSettings()
	fs.VisitAll(func(f *flag.Flag) {
		variable := "WSLOAD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if !strings.Contains(explained.String(), "  -"+f.Name+" ") || f.Name != "version" && !strings.Contains(explained.String(), variable) {
			t.Errorf("-h does not describe -%s or %s", f.Name, variable)
		}
		if !strings.Contains(string(doc), "| `-"+f.Name+"` |") {
			t.Errorf("docs/load.md does not describe -%s", f.Name)
		}
	})
	for kind := range stats.Failures {
		name := kind.String()
		if !strings.Contains(explained.String(), "  "+name+" ") || !strings.Contains(string(doc), "| `"+name+"` |") {
			t.Errorf("-h or docs/load.md does not describe the error kind %s", name)
		}
	}
	for _, name := range report.MetricNames() {
		if !strings.Contains(explained.String(), name) || !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("-h or docs/load.md does not describe the metric %s", name)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	for arg, want := range map[string]string{"-version": "commit", "-h": "usage:", "--help": "usage:"} {
		if r := wsloadText(t, arg); r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: got exit status %d, stdout %q, stderr %q; want stdout with %q", arg, r.status, r.stdout, r.stderr, want)
		}
	}
}

func TestTextReport(t *testing.T) {
	s := startServer(t)
	r := wsloadText(t, "-url", s.url, "-connections", "3", "-warmup", "0s", "-duration", "100ms")
	for _, want := range []string{"Closed loop", "/s", "p50 ", "p99.9 ", "3 of 3", "none", "µs of CPU per message"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the report does not contain %q:\n%s", want, r.stdout)
		}
	}
	if r.stderr != "" {
		t.Errorf("stderr is not a terminal: got %q, want nothing", r.stderr)
	}
	if r := wsloadText(t, "-url", s.url, "-rate", "100", "-connections", "1", "-warmup", "0s", "-duration", "100ms"); !strings.Contains(r.stdout, "Fixed rate, 100 per second") {
		t.Errorf("the report does not name the loop:\n%s", r.stdout)
	}
}

func TestHTMLReportIsSelfContained(t *testing.T) {
	s := startServer(t)
	path := filepath.Join(t.TempDir(), "report.html")
	r := wsload(t, s.url, "-html", path, "-interval", "100ms", "-duration", "500ms")
	page, err := os.ReadFile(path)
	if err != nil || r.status != 0 {
		t.Fatal(err, r.stderr)
	}
	if n := strings.Count(string(page), "<svg"); n != 5 {
		t.Errorf("got %d charts, want 5", n)
	}
	outside := regexp.MustCompile(`(?i)(src|href)\s*=|@import|url\(|<script|<link`)
	if found := outside.FindString(string(page)); found != "" {
		t.Errorf("the page refers to something outside of it: %s", found)
	}
	for _, want := range []string{
		"replies per second</text>", "latency</text>", "percentile</text>", "CPUs</text>", "time since the measurement began</text>", // axes
		"<li>p50</li><li>p90</li><li>p99</li><li>p99.9</li><li>max</li>",
		"@media (prefers-color-scheme: dark)", "var(--curve5)",
		"<code>wsload ", " -duration=500ms ", s.url + "</code>", "<th scope=\"row\">-inflight</th><td>1 (default)</td>", ", commit ", "go1.", " CPUs</td>",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(page), "rgb(1,1,1)") || strings.Contains(string(page), "#010101") {
		t.Error("a colour of a chart does not follow the colour scheme")
	}
	if strings.Contains(string(page), "NaN") {
		t.Error("a chart has NaN")
	}
	if r := wsloadText(t, "-url", s.url, "-duration", "1ms", "-html", filepath.Join(path, "no")); r.status != exitFailed || !strings.Contains(r.stderr, "-html "+path) {
		t.Errorf("a path that cannot be opened: got exit status %d, %q", r.status, r.stderr)
	}
}

func TestHTMLReportOfShortRuns(t *testing.T) {
	s := startServer(t)
	path := filepath.Join(t.TempDir(), "report.html")
	for _, args := range [][]string{{"-duration", "1ms"}, {"-mode", "idle"}, {"-rate", "1", "-connections", "1"}} {
		if r := wsload(t, s.url, append(args, "-html", path)...); r.status != exitMeasured {
			t.Errorf("%v: exit status %d, %s", args, r.status, r.stderr)
		}
	}
}

// The command in the report repeats the run, and contains no secret.
func TestReportHasTheCommand(t *testing.T) {
	s := startServer(t)
	url := strings.Replace(s.url, "ws://", "ws://user:password@", 1)
	r := wsload(t, url, "-duration", "1ms", "-header", "Cookie: session=secret", "-fail-if", "p99>1m", "-type", "text")
	want := "wsload -connections=" + fmt.Sprint(r.Connections) + " -duration=1ms -fail-if='p99>1m' -header='Cookie: …' "
	if !strings.HasPrefix(r.Command, want) || !strings.Contains(r.Command, " -type=text ") {
		t.Errorf("got the command %q, want it to begin with %q", r.Command, want)
	}
	if strings.Contains(r.Command, "password") || strings.Contains(r.Command, "secret") {
		t.Errorf("the command %q contains a secret", r.Command)
	}
}

func TestQuoted(t *testing.T) {
	for text, want := range map[string]string{"": "''", "a-b/c:1,2": "a-b/c:1,2", "p99>5ms": "'p99>5ms'", "it's": `'it'\''s'`, "a b": "'a b'", "$x": "'$x'"} {
		if got := quoted(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
