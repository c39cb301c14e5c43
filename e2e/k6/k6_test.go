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
	waitTimeout    = 2 * time.Minute
	exitThreshold  = 99  // k6: a threshold was missed
	exitBadScript  = 107 // k6: the script threw before the run began
	exitEndedAfter = 124 // timeout(1): stopped by SIGTERM
	exitKilled     = 137 // timeout(1): stopped by SIGKILL
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// A server answers the nth message of a connection. It returns false to end the connection.
type server func(c net.Conn, n int, op ws.OpCode, payload []byte) bool

func echo(c net.Conn, _ int, op ws.OpCode, payload []byte) bool {
	return wsutil.WriteServerMessage(c, op, payload) == nil
}

// listen serves until the test ends, and returns the server's URL. It answers close frames and
// pings.
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
				c.SetDeadline(time.Now().Add(waitTimeout))
				behave(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return "ws://" + l.Addr().String() + "/"
}

// outcome holds the results of a run.
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

var printOnce sync.Once // go test prints the reason of a skip only with -v

// run runs a script against a server.
func run(t *testing.T, script, url string, env ...string) *outcome {
	t.Helper()
	if _, err := os.Stat("../../bin/k6"); err != nil {
		const reason = "no bin/k6: build it with make bin/k6"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		printOnce.Do(func() { fmt.Println("skipped:", reason) })
		t.Skip(reason)
	}
	reports := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
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

// read reads the reports, if there are any, and checks that they agree.
func (o *outcome) read(path string) {
	o.t.Helper()
	text, err := os.ReadFile(path + ".txt")
	if err != nil {
		return
	}
	if !strings.Contains(o.output, string(text)) {
		o.t.Errorf("the text report differs from the output:\n%s", text)
	}
	asJSON, _ := os.ReadFile(path + ".json")
	if err := json.Unmarshal(asJSON, &o.report); err != nil {
		o.t.Errorf("JSON report: %v\n%s", err, asJSON)
	}
	var suites struct {
		Suites []suite `xml:"testsuite"`
	}
	asXML, _ := os.ReadFile(path + ".xml")
	if err := xml.Unmarshal(asXML, &suites); err != nil || len(suites.Suites) != 1 {
		o.t.Fatalf("XML report: %v\n%s", err, asXML)
	}
	o.suite = suites.Suites[0]
	failures := 0
	for _, c := range o.suite.Cases {
		if c.Failure != nil {
			failures++
		}
	}
	if n := len(o.report.Thresholds) + len(o.report.Checks); o.suite.Tests != n || len(o.suite.Cases) != n {
		o.t.Errorf("got tests=%[2]d and %[3]d test cases in the XML report, want the %[1]d thresholds and checks", n, o.suite.Tests, len(o.suite.Cases))
	}
	if o.suite.Failures != failures || o.report.Passed != (failures == 0) {
		o.t.Errorf("got %d failures in the XML report, failures=%d, and passed=%v in the JSON report", failures, o.suite.Failures, o.report.Passed)
	}
}

func (o *outcome) wantStatus(statuses ...int) {
	o.t.Helper()
	for _, s := range statuses {
		if o.status == s {
			return
		}
	}
	o.t.Errorf("got exit status %d, want one of %v", o.status, statuses)
}

func (o *outcome) wantOutput(s string) {
	o.t.Helper()
	if !strings.Contains(o.output, s) {
		o.t.Errorf("want %q in the output", s)
	}
}

// wantErrors wants errors of exactly this kind, or none if it is empty.
func (o *outcome) wantErrors(kind string) {
	o.t.Helper()
	for name, m := range o.report.Metrics {
		of, isKind := strings.CutPrefix(name, "ws_errors{kind:")
		if n := m.Values["count"]; isKind && (n > 0) != (of == kind+"}") {
			o.t.Errorf("got %[1]v errors in %[2]s, want errors of kind %[3]q only", n, name, kind)
		}
	}
}

// Each script, with short durations, passes against a server that echoes, and measures something.
func TestEchoingServerPasses(t *testing.T) {
	url := server(echo).listen(t)
	for _, script := range []string{"smoke", "storm", "steady", "spike", "soak"} {
		t.Run(script, func(t *testing.T) {
			env := []string{"DURATION=3s", "RATE=10", "RAMP=1s", "PING=500ms", "SPIKE_VUS=2"}
			// The latency limits are high, because the machine may be busy.
			o := run(t, script, url, append(env, "RTT_P99=30000", "CONNECT_P99=30000", "VUS=2")...)
			o.wantStatus(0)
			o.wantErrors("")
			for _, c := range o.report.Checks {
				if c.Passes == 0 || c.Fails != 0 {
					t.Errorf("check %s: got %d passes, %d failures, want only passes", c.Name, c.Passes, c.Fails)
				}
			}
			if len(o.report.Checks) != 4 || !o.report.Passed {
				t.Errorf("got %d checks, passed: %v, want 4 checks, all passed", len(o.report.Checks), o.report.Passed)
			}
			values := func(metric, value string) float64 { return o.report.Metrics[metric].Values[value] }
			if sent := values("ws_echo_rtt", "count"); sent < 20 || values("ws_echo_rtt", "p(50)") <= 0 || sent != values("ws_msgs_received", "count") {
				t.Errorf("got round trips %v, want at least 20, as many as messages received", o.report.Metrics["ws_echo_rtt"])
			}
			if n := values("ws_completed", "count"); n < 6 || n != values("ws_sessions", "count") {
				t.Errorf("got %v completed sockets of %v, want all, and at least 6", n, values("ws_sessions", "count"))
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

// With GREETING=1 every script expects a message before the first echo.
func TestGreeting(t *testing.T) {
	url := greets(t)
	for _, script := range []string{"smoke", "storm", "steady", "spike", "soak"} {
		t.Run(script, func(t *testing.T) {
			env := []string{"DURATION=3s", "RATE=10", "RAMP=1s", "PING=500ms", "SPIKE_VUS=2", "RTT_P99=30000", "CONNECT_P99=30000", "VUS=2"}
			o := run(t, script, url, append(env, "GREETING=1")...)
			o.wantStatus(0)
			o.wantErrors("")
			if n := o.report.Metrics["ws_echoes"].Values["count"]; n < 20 || n != o.report.Metrics["ws_echo_rtt"].Values["count"] {
				t.Errorf("got %v echoes, want at least 20, as many as round trips", n)
			}
		})
	}
}

// A greeting does not count as an echo.
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
		t.Errorf("got exit status %d, passed: %v, want a failed run", o.status, o.report.Passed)
	}
}

// A server that answers wrongly fails the run and aborts it early.
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
			o.wantOutput(x.kind + ": ")                       // followed by the reason
			if x.kind != "connect" && x.kind != "handshake" { // those runs end without an abort
				o.wantOutput("at least one has abortOnFail enabled")
			}
			if o.report.Passed || o.report.Seconds > 25 {
				t.Errorf("got passed: %v after %v s of %s, want a failure within 25 s", o.report.Passed, o.report.Seconds, time)
			}
		})
	}
}

// The run ends although the server never answers the close frame, for which k6 itself waits
// forever.
func TestSilentServerEndsTheRun(t *testing.T) {
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

// docs/k6.md has every variable that a script reads.
func TestVariablesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/k6.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../loadtest/k6/*.js")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts in loadtest/k6:", err)
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
				t.Errorf("docs/k6.md has no row for %s of %s", name, file)
			}
		}
	}
	if found < 10 {
		t.Errorf("got %d variables in %v, want at least 10", found, files)
	}
}
