// Package k6 tests the scripts in loadtest/k6 with bin/k6, which `make k6` builds.
package k6

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"wsecho/internal/leak"
)

const (
	patience       = 2 * time.Minute
	exitThreshold  = 99  // k6: a threshold was missed
	exitBadScript  = 107 // k6: the script threw before the run began
	exitEndedAfter = 124 // timeout(1): by SIGTERM
	exitKilled     = 137 // timeout(1): by SIGKILL
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// a server answers each message as a test wants; false ends the connection.
type server func(c net.Conn, n int, op ws.OpCode, payload []byte) bool

func echo(c net.Conn, _ int, op ws.OpCode, payload []byte) bool {
	return wsutil.WriteServerMessage(c, op, payload) == nil
}

// listen serves until the test ends, and returns its URL. Closes and pings are answered as they should be.
func (s server) listen(t *testing.T) string {
	return listen(t, func(c net.Conn) {
		if _, err := ws.Upgrade(c); err != nil {
			return
		}
		for n := 1; ; n++ {
			payload, op, err := wsutil.ReadClientData(c)
			if err != nil || !s(c, n, op, payload) {
				return
			}
		}
	})
}

func listen(t *testing.T, behave func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				behave(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return "ws://" + l.Addr().String() + "/"
}

// outcome is what a run has left.
type outcome struct {
	t      *testing.T
	status int
	output string
	took   time.Duration
	report struct {
		Passed  bool
		Seconds float64
		Checks  []struct {
			Name          string
			Passes, Fails int
		}
		Thresholds []struct {
			Metric, Threshold string
			OK                bool
		}
		Metrics map[string]struct{ Values map[string]float64 }
	}
	suite suite
}

type suite struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Cases    []struct {
		Name    string    `xml:"name,attr"`
		Failure *struct{} `xml:"failure"`
	} `xml:"testcase"`
}

var sayOnce sync.Once // a skip is printed, which go test does not do by itself

// run runs a script against a server.
func run(t *testing.T, script, url string, env ...string) *outcome {
	t.Helper()
	if _, err := os.Stat("../../bin/k6"); err != nil {
		const reason = "no bin/k6: make bin/k6 builds it"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		sayOnce.Do(func() { fmt.Println("skipped:", reason) })
		t.Skip(reason)
	}
	reports := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../loadtest/k6/run", script)
	cmd.Env = append(os.Environ(), "WS_URL="+url, "REPORTS="+reports, "VUS=1", "SOCKETS_PER_VU=3", "LIMIT=1m")
	cmd.Env = append(cmd.Env, env...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	begun := time.Now()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o := &outcome{t: t, status: cmd.ProcessState.ExitCode(), output: output.String(), took: time.Since(begun)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("exit status %d after %v:\n%s", o.status, o.took, o.output)
		}
	})
	o.read(filepath.Join(reports, script))
	return o
}

// read reads the reports, if there are any, and wants them to agree.
func (o *outcome) read(path string) {
	o.t.Helper()
	text, err := os.ReadFile(path + ".txt")
	if err != nil {
		return
	}
	if !strings.Contains(o.output, string(text)) {
		o.t.Errorf("the text is not what was printed:\n%s", text)
	}
	asJSON, _ := os.ReadFile(path + ".json")
	if err := json.Unmarshal(asJSON, &o.report); err != nil {
		o.t.Errorf("the JSON: %v\n%s", err, asJSON)
	}
	var suites struct {
		Suites []suite `xml:"testsuite"`
	}
	asXML, _ := os.ReadFile(path + ".xml")
	if err := xml.Unmarshal(asXML, &suites); err != nil || len(suites.Suites) != 1 {
		o.t.Fatalf("the XML: %v\n%s", err, asXML)
	}
	o.suite = suites.Suites[0]
	failures := 0
	for _, c := range o.suite.Cases {
		if c.Failure != nil {
			failures++
		}
	}
	if n := len(o.report.Thresholds) + len(o.report.Checks); o.suite.Tests != n || len(o.suite.Cases) != n {
		o.t.Errorf("%d thresholds and checks, and the XML says %d and has %d", n, o.suite.Tests, len(o.suite.Cases))
	}
	if o.suite.Failures != failures || o.report.Passed != (failures == 0) {
		o.t.Errorf("the XML has %d failures and says %d; the JSON says passed: %v", failures, o.suite.Failures, o.report.Passed)
	}
}

func (o *outcome) wantStatus(statuses ...int) {
	o.t.Helper()
	for _, s := range statuses {
		if o.status == s {
			return
		}
	}
	o.t.Errorf("exit status %d, want one of %v", o.status, statuses)
}

func (o *outcome) wantOutput(s string) {
	o.t.Helper()
	if !strings.Contains(o.output, s) {
		o.t.Errorf("nothing says %q", s)
	}
}

// wantErrors wants errors of one kind and no other; none if it is empty.
func (o *outcome) wantErrors(kind string) {
	o.t.Helper()
	for name, m := range o.report.Metrics {
		of, isKind := strings.CutPrefix(name, "ws_errors{kind:")
		if n := m.Values["count"]; isKind && (n > 0) != (of == kind+"}") {
			o.t.Errorf("%v errors in %s", n, name)
		}
	}
}

// Each script, shortened, is content with a server that echoes, and has done something.
func TestRightServer(t *testing.T) {
	url := server(echo).listen(t)
	for _, script := range []string{"smoke", "storm", "steady", "spike", "soak"} {
		t.Run(script, func(t *testing.T) {
			env := []string{"DURATION=3s", "RATE=10", "RAMP=1s", "PING=500ms", "SPIKE_VUS=2"}
			// The machine may be busy; how late echoes are is no matter here.
			o := run(t, script, url, append(env, "RTT_P99=30000", "CONNECT_P99=30000", "VUS=2")...)
			o.wantStatus(0)
			o.wantErrors("")
			for _, c := range o.report.Checks {
				if c.Passes == 0 || c.Fails != 0 {
					t.Errorf("%s: %d passes, %d failures", c.Name, c.Passes, c.Fails)
				}
			}
			if len(o.report.Checks) != 4 || !o.report.Passed {
				t.Errorf("%d checks, passed: %v", len(o.report.Checks), o.report.Passed)
			}
			values := func(metric, value string) float64 { return o.report.Metrics[metric].Values[value] }
			if sent := values("ws_echo_rtt", "count"); sent < 20 || values("ws_echo_rtt", "p(50)") <= 0 || sent != values("ws_msgs_received", "count") {
				t.Errorf("round trips: %v", o.report.Metrics["ws_echo_rtt"])
			}
			if n := values("ws_completed", "count"); n < 6 || n != values("ws_sessions", "count") {
				t.Errorf("%v sockets completed of %v", n, values("ws_sessions", "count"))
			}
		})
	}
}

// greets sends a message before it echoes.
func greets(t *testing.T) string {
	return listen(t, func(c net.Conn) {
		if _, err := ws.Upgrade(c); err != nil {
			return
		}
		wsutil.WriteServerText(c, []byte("Request served by 1781505b56ee58"))
		for {
			payload, op, err := wsutil.ReadClientData(c)
			if err != nil || !echo(c, 0, op, payload) {
				return
			}
		}
	})
}

// Every script expects a greeting with GREETING=1.
func TestGreeting(t *testing.T) {
	url := greets(t)
	for _, script := range []string{"smoke", "storm", "steady", "spike", "soak"} {
		t.Run(script, func(t *testing.T) {
			env := []string{"DURATION=3s", "RATE=10", "RAMP=1s", "PING=500ms", "SPIKE_VUS=2", "RTT_P99=30000", "CONNECT_P99=30000", "VUS=2"}
			o := run(t, script, url, append(env, "GREETING=1")...)
			o.wantStatus(0)
			o.wantErrors("")
			if n := o.report.Metrics["ws_echoes"].Values["count"]; n < 20 || n != o.report.Metrics["ws_echo_rtt"].Values["count"] {
				t.Errorf("%v echoes", n)
			}
		})
	}
}

// A server whose only messages are greetings has echoed nothing.
func TestGreetingIsNoEcho(t *testing.T) {
	url := listen(t, func(c net.Conn) {
		if _, err := ws.Upgrade(c); err != nil {
			return
		}
		wsutil.WriteServerText(c, []byte("hi"))
		wsutil.ReadClientData(c)
	})
	o := run(t, "smoke", url, "DURATION=1s", "RATE=0.001", "GREETING=1")
	if o.status == 0 || o.report.Passed {
		t.Errorf("exit status %d, passed: %v", o.status, o.report.Passed)
	}
}

// A server that answers wrongly fails the run, and ends it long before its time.
func TestWrongServers(t *testing.T) {
	third := func(answer server) func(t *testing.T) string {
		return func(t *testing.T) string {
			return server(func(c net.Conn, n int, op ws.OpCode, p []byte) bool {
				if n%3 != 0 {
					return echo(c, n, op, p)
				}
				return answer(c, n, op, p)
			}).listen(t)
		}
	}
	alters := func(which ws.OpCode) func(t *testing.T) string {
		return server(func(c net.Conn, n int, op ws.OpCode, p []byte) bool {
			if op == which {
				p[77] ^= 1
			}
			return echo(c, n, op, p)
		}).listen
	}
	for _, x := range []struct {
		name, kind string
		serve      func(t *testing.T) string
		env        []string
	}{
		{name: "greets unexpectedly", kind: "unasked", serve: greets},
		{name: "does not greet", kind: "timeout", serve: server(echo).listen, env: []string{"GREETING=1"}},
		{name: "greets once, not twice", kind: "timeout", serve: greets, env: []string{"GREETING=2"}},
		{name: "alters a byte of text", kind: "mismatch", serve: alters(ws.OpText)},
		{name: "alters a byte of binary", kind: "mismatch", serve: alters(ws.OpBinary)},
		{name: "leaves out a byte", kind: "mismatch", serve: third(func(c net.Conn, n int, op ws.OpCode, p []byte) bool { return echo(c, n, op, p[1:]) })},
		{name: "answers with the other type", kind: "mismatch", serve: third(func(c net.Conn, n int, op ws.OpCode, p []byte) bool {
			return echo(c, n, ws.OpText+ws.OpBinary-op, []byte("ASCII"))
		})},
		{name: "answers twice", kind: "unasked", serve: third(func(c net.Conn, n int, op ws.OpCode, p []byte) bool {
			echo(c, n, op, p)
			return echo(c, n, op, p)
		})},
		{name: "answers no more", kind: "timeout", serve: server(func(c net.Conn, n int, op ws.OpCode, p []byte) bool {
			return n >= 3 || echo(c, n, op, p)
		}).listen},
		{name: "leaves out an answer", kind: "mismatch", serve: third(func(net.Conn, int, ws.OpCode, []byte) bool { return true })},
		{name: "closes", kind: "closed", serve: third(func(c net.Conn, _ int, _ ws.OpCode, _ []byte) bool {
			ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "bye")))
			return true
		})},
		{name: "ends", kind: "cut", serve: third(func(net.Conn, int, ws.OpCode, []byte) bool { return false })},
		{name: "masks", kind: "cut", serve: third(func(c net.Conn, _ int, _ ws.OpCode, p []byte) bool {
			return ws.WriteFrame(c, ws.MaskFrame(ws.NewBinaryFrame(p))) == nil
		})},
		{name: "refuses", kind: "handshake", serve: func(t *testing.T) string {
			return listen(t, func(c net.Conn) {
				c.Read(make([]byte, 4096))
				c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
			})
		}},
		{name: "is not there", kind: "connect", serve: func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			return "ws://" + l.Addr().String() + "/"
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			const time = "50s"
			o := run(t, "steady", x.serve(t), append(x.env, "DURATION="+time, "RATE=4", "TIMEOUT=1s", "RTT_P99=30000")...)
			o.wantStatus(exitThreshold)
			o.wantErrors(x.kind)
			o.wantOutput(x.kind + ": ")                       // and why
			if x.kind != "connect" && x.kind != "handshake" { // then all is over anyway
				o.wantOutput("at least one has abortOnFail enabled")
			}
			if o.report.Passed || o.report.Seconds > 25 {
				t.Errorf("passed: %v, in %v s of %s", o.report.Passed, o.report.Seconds, time)
			}
		})
	}
}

// k6 would wait for ever for the answer to a close.
func TestSilentServerIsLeft(t *testing.T) {
	url := listen(t, func(c net.Conn) {
		if _, err := ws.Upgrade(c); err != nil {
			return
		}
		for {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	o := run(t, "smoke", url, "DURATION=1s", "TIMEOUT=1s", "LIMIT=6s")
	o.wantStatus(exitEndedAfter, exitKilled)
	o.wantOutput("timeout: no echo for 1000 ms")
}

func TestWrongVariables(t *testing.T) {
	for _, x := range []struct{ variable, wanted string }{
		{"VUS=0", "want a whole number, at least 1"},
		{"RATE=often", "want a number above 0"},
		{"RATE=0", "want a number above 0"},
		{"DURATION=10", "want a time above 0"},
		{"PAYLOAD=1,x", "want bytes per message"},
		{"PAYLOAD=99999999", "at most 16777216"},
		{"TYPE=json", "want both, text or binary"},
		{"GREETING=hello", "want the number of messages that the server sends first"},
		{"GREETING=-1", "want the number of messages"},
		{"WS_URL=http://localhost/", "want ws://"},
	} {
		t.Run(x.variable, func(t *testing.T) {
			o := run(t, "smoke", "ws://127.0.0.1:1/", x.variable)
			o.wantStatus(exitBadScript)
			o.wantOutput(x.variable + ": ")
			o.wantOutput(x.wanted)
		})
	}
}

// The page explains every variable that a script reads, and says its default.
func TestVariablesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/k6.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../loadtest/k6/*.js")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	read := regexp.MustCompile(`(?:variable|whole|positive|duration|sizes|greetings)\('([A-Z0-9_]+)'|__ENV\.([A-Z0-9_]+)`)
	found := 0
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range read.FindAllStringSubmatch(string(script), -1) {
			found++
			if name := m[1] + m[2]; !strings.Contains(string(page), "| `"+name+"` |") {
				t.Errorf("docs/k6.md does not explain %s of %s", name, file)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d variables were found in %v", found, files)
	}
}
