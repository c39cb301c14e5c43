package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Several servers behind one address: the balancers of deploy/, with the files as they are shipped.

const (
	haproxyFile = "../deploy/haproxy/haproxy.cfg"
	nginxFile   = "../deploy/nginx/nginx.conf"
)

// installed finds a balancer. Debian's are in sbin, which is not in everybody's PATH.
func installed(t *testing.T, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	path, err := exec.LookPath("/usr/sbin/" + program)
	if err != nil {
		unavailable(t, "%v", err)
	}
	return path
}

// site is a balancer's address and those of three nodes, all of them this test's own: no other process, and no
// outgoing connection, has a port there. So a node can leave its port and come back to it.
type site struct {
	front  string
	nodes  [3]string
	admins [3]string // the same port at all of them
}

func newSite(t *testing.T) (s site) {
	t.Helper()
	host := func(n int) string {
		pid := os.Getpid()
		return fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, n)
	}
	var listeners []net.Listener
	port := func() string { // that is free on the first node, so on all
		l, err := net.Listen("tcp4", host(1)+":0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	echo, admin := port(), port()
	for _, l := range listeners {
		l.Close()
	}
	s.front = net.JoinHostPort(host(100), echo)
	for i := range s.nodes {
		s.nodes[i] = net.JoinHostPort(host(i+1), echo)
		s.admins[i] = net.JoinHostPort(host(i+1), admin)
	}
	return s
}

// drainTime is how long a node waits for a peer that does not answer 1001.
const drainTime = 2 * time.Second

func (s site) node(t *testing.T, i int) *server {
	t.Helper()
	return startBy(t, exec.Command(wsecho, "-listen", s.nodes[i], "-admin", s.admins[i], "-log", "json", "-workers", "1", "-drain-timeout", drainTime.String()))
}

// haproxyEnv is what the shipped file is told in the environment.
func (s site) haproxyEnv(stats string) []string {
	_, port, _ := net.SplitHostPort(s.admins[0])
	return append(os.Environ(), "WSECHO_BIND="+s.front, "WSECHO_NODE1="+s.nodes[0], "WSECHO_NODE2="+s.nodes[1], "WSECHO_NODE3="+s.nodes[2],
		"WSECHO_ADMIN_PORT="+port, "WSECHO_STATS="+stats, "WSECHO_MAXCONN=4000")
}

// nginxConf is the shipped file with this site's addresses.
func (s site) nginxConf(t *testing.T, dir string) string {
	t.Helper()
	conf, err := os.ReadFile(nginxFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for from, to := range map[string]string{
		"0.0.0.0:80 ":     s.front + " ",
		"192.0.2.11:8080": s.nodes[0], "192.0.2.12:8080": s.nodes[1], "192.0.2.13:8080": s.nodes[2],
		"/run/nginx.pid": filepath.Join(dir, "pid"),
	} {
		if strings.Count(text, from) != 1 {
			t.Fatalf("%q is not in %s once", from, nginxFile)
		}
		text = strings.Replace(text, from, to, 1)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The programs themselves say whether the files are right; that they would say no, if they were not, a
// misspelt copy shows.
func TestBalancersAcceptTheirFiles(t *testing.T) {
	misspelt := func(t *testing.T, file, from, to string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(from)) {
			t.Fatalf("%q is not in %s", from, file)
		}
		path := filepath.Join(t.TempDir(), "misspelt")
		if err := os.WriteFile(path, bytes.Replace(text, []byte(from), []byte(to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("haproxy", func(t *testing.T) {
		haproxy := installed(t, "haproxy")
		check := func(file string) ([]byte, error) {
			return exec.Command(haproxy, "-c", "-V", "-f", file).CombinedOutput()
		}
		out, err := check(haproxyFile)
		if err != nil || bytes.Contains(out, []byte("WARNING")) {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := check(misspelt(t, haproxyFile, "timeout tunnel", "timeout tunnels")); err == nil {
			t.Error("haproxy -c has nothing against a timeout that does not exist")
		}
	})
	t.Run("nginx", func(t *testing.T) {
		nginx := installed(t, "nginx")
		check := func(file string) ([]byte, error) {
			return exec.Command(nginx, "-t", "-p", t.TempDir(), "-c", file).CombinedOutput()
		}
		file := newSite(t).nginxConf(t, t.TempDir())
		if out, err := check(file); err != nil || bytes.Contains(out, []byte("[warn]")) {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := check(misspelt(t, file, "least_conn;", "least_conns;")); err == nil {
			t.Error("nginx -t has nothing against a directive that does not exist")
		}
	})
}

// balancer is a program that the test ends.
type balancer struct {
	t     *testing.T
	cmd   *exec.Cmd
	stats string // haproxy's socket
}

// run starts it; the test's end ends it by the signal.
func (b *balancer) run(end syscall.Signal) {
	b.t.Helper()
	var output bytes.Buffer
	b.cmd.Stdout, b.cmd.Stderr = &output, &output
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.cmd.Process.Signal(end)
		kill := time.AfterFunc(patience, func() { b.cmd.Process.Kill() })
		defer kill.Stop()
		b.cmd.Wait()
		if b.t.Failed() {
			b.t.Logf("what %s said:\n%s", b.cmd.Path, output.Bytes())
		}
	})
}

func startHAProxy(t *testing.T, s site) *balancer {
	t.Helper()
	b := &balancer{t: t, stats: filepath.Join(t.TempDir(), "stats")}
	b.cmd = exec.Command(installed(t, "haproxy"), "-db", "-f", haproxyFile)
	b.cmd.Env = s.haproxyEnv(b.stats)
	b.run(syscall.SIGTERM)
	return b
}

func startNginx(t *testing.T, s site) *balancer {
	t.Helper()
	dir := t.TempDir()
	b := &balancer{t: t}
	b.cmd = exec.Command(installed(t, "nginx"), "-p", dir, "-c", s.nginxConf(t, dir), "-g", "daemon off;")
	b.run(syscall.SIGTERM)
	return b
}

// stat is a line of HAProxy's statistics, by their names.
func (b *balancer) stat(name string) map[string]string {
	conn, err := net.Dial("unix", b.stats)
	if err != nil {
		return nil // not yet
	}
	defer conn.Close()
	fmt.Fprintln(conn, "show stat")
	rows, err := csv.NewReader(conn).ReadAll()
	if err != nil || len(rows) == 0 {
		b.t.Fatalf("HAProxy's statistics: %v", err)
	}
	for _, row := range rows[1:] {
		if row[1] != name {
			continue
		}
		stat := map[string]string{}
		for i, column := range rows[0] {
			stat[strings.TrimPrefix(column, "# ")] = row[i]
		}
		return stat
	}
	b.t.Fatalf("HAProxy has no statistics of %s", name)
	return nil
}

func (b *balancer) wantStatus(node, want string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("HAProxy finds %s %s", node, want), func() bool { return b.stat(node)["status"] == want })
}

// load is a run of wsload that the test ends.
type load struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// loadReport is what the tests want to know of wsload's report: docs/load.md.
type loadReport struct {
	Connections int
	Messages    uint64
	Rate        float64
	Open        int
	Reopened    uint64
	Lost        uint64
	Latency     quantiles `json:"latency_us"`
	Handshake   quantiles `json:"handshake_us"`
	Closes      []struct {
		Code              int
		Connections, Lost uint64
	}
	Errors struct {
		Total uint64
		Kinds json.RawMessage
	}
}

// String is of the report what a test shows.
func (r loadReport) String() string {
	return fmt.Sprintf("%d messages echoed, %.0f/s, p50 %.1f ms, p99 %.1f ms, longest %.0f ms; %d handshakes, longest %.0f ms; %d opened again; %d errors; %d messages met their connection's 1001",
		r.Latency.Count, r.Rate, r.Latency.P50/1e3, r.Latency.P99/1e3, r.Latency.Max/1e3, r.Handshake.Count, r.Handshake.Max/1e3, r.Reopened, r.Errors.Total, r.Lost)
}

type quantiles struct {
	Count         int64
	P50, P99, Max float64
}

func startLoad(t *testing.T, program, addr string, args ...string) *load {
	t.Helper()
	l := &load{t: t}
	l.cmd = exec.Command(program, append([]string{"-url", "ws://" + addr + "/", "-json", "-reopen", "-warmup", "0s", "-duration", "10m", "-workers", "1"}, args...)...)
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.cmd.ProcessState == nil {
			l.cmd.Process.Kill()
			l.cmd.Wait()
		}
	})
	return l
}

// end ends the load, and returns its report.
func (l *load) end() (r loadReport) {
	l.t.Helper()
	l.cmd.Process.Signal(os.Interrupt)
	err := l.cmd.Wait()
	if err == nil {
		err = json.Unmarshal(l.stdout.Bytes(), &r)
	}
	if err != nil {
		l.t.Fatalf("wsload: %v\n%s%s", err, l.stdout.Bytes(), l.stderr.Bytes())
	}
	return r
}

// wantOnlyTold1001: no error of any kind, so no handshake refused and nothing cut; and whatever ended was told 1001.
func (r loadReport) wantOnlyTold1001(t *testing.T) (told uint64) {
	t.Helper()
	if r.Errors.Total > 0 {
		t.Errorf("%d errors: %s", r.Errors.Total, r.Errors.Kinds)
	}
	crossed := uint64(0)
	for _, c := range r.Closes {
		if c.Code != 1001 {
			t.Errorf("%d connections were closed with %d", c.Connections, c.Code)
			continue
		}
		told, crossed = c.Connections, c.Lost
	}
	if r.Lost != crossed {
		t.Errorf("%d messages were lost on connections that were not told 1001", r.Lost-crossed)
	}
	return told
}

func (s *server) ready() bool {
	response, err := http.Get("http://" + s.admin + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}
