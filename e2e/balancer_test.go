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

// These tests run several servers behind the load balancers of deploy/, with the shipped
// configuration files.

const (
	haproxyFile = "../deploy/haproxy/haproxy.cfg"
	nginxFile   = "../deploy/nginx/nginx.conf"
)

// installed returns the path of a load balancer, or skips the test. Debian installs them in
// /usr/sbin, which may not be in PATH.
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

// site holds the addresses of a load balancer and three nodes. Only this test uses the addresses,
// so no other process or outgoing connection can take a node's port while it restarts.
type site struct {
	front  string
	nodes  [3]string
	admins [3]string // all with the same port
}

func newSite(t *testing.T) (s site) {
	t.Helper()
	host := func(n int) string {
		pid := os.Getpid()
		return fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, n)
	}
	var listeners []net.Listener
	port := func() string { // a port that is free on the first node, and so on all
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
	return startCmd(t, exec.Command(wsecho, "-listen", s.nodes[i], "-admin", s.admins[i], "-log", "json", "-workers", "1", "-drain-timeout", drainTime.String()))
}

// haproxyEnv returns the environment variables that the shipped file reads.
func (s site) haproxyEnv(stats string) []string {
	_, port, _ := net.SplitHostPort(s.admins[0])
	return append(os.Environ(), "WSECHO_BIND="+s.front, "WSECHO_NODE1="+s.nodes[0], "WSECHO_NODE2="+s.nodes[1], "WSECHO_NODE3="+s.nodes[2],
		"WSECHO_ADMIN_PORT="+port, "WSECHO_STATS="+stats, "WSECHO_MAXCONN=4000")
}

// nginxConf writes a copy of the shipped file with the site's addresses, and returns its path.
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
			t.Fatalf("want %q exactly once in %s", from, nginxFile)
		}
		text = strings.Replace(text, from, to, 1)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// haproxy -c and nginx -t accept the shipped files, and reject a copy with a misspelt directive.
func TestBalancersAcceptTheirFiles(t *testing.T) {
	misspelt := func(t *testing.T, file, from, to string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(from)) {
			t.Fatalf("want %q in %s", from, file)
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
			t.Error("haproxy -c accepted an unknown timeout")
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
			t.Error("nginx -t accepted an unknown directive")
		}
	})
}

// balancer is a running load balancer.
type balancer struct {
	t     *testing.T
	cmd   *exec.Cmd
	stats string // HAProxy's statistics socket; empty for nginx
}

// run starts the load balancer. The test's cleanup sends it the signal.
func (b *balancer) run(end syscall.Signal) {
	b.t.Helper()
	var output bytes.Buffer
	b.cmd.Stdout, b.cmd.Stderr = &output, &output
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.cmd.Process.Signal(end)
		kill := time.AfterFunc(waitTimeout, func() { b.cmd.Process.Kill() })
		defer kill.Stop()
		b.cmd.Wait()
		if b.t.Failed() {
			b.t.Logf("output of %s:\n%s", b.cmd.Path, output.Bytes())
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

// stat returns a row of HAProxy's statistics as values by column, or nil before the socket exists.
func (b *balancer) stat(name string) map[string]string {
	conn, err := net.Dial("unix", b.stats)
	if err != nil {
		return nil
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
	b.t.Fatalf("no row %s in HAProxy's statistics", name)
	return nil
}

func (b *balancer) wantStatus(node, want string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("HAProxy reports %s as %s", node, want), func() bool { return b.stat(node)["status"] == want })
}

// load is a running wsload.
type load struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// loadReport holds the fields of wsload's report (docs/load.md) that the tests use.
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

// String summarizes the report for the test's log.
func (r loadReport) String() string {
	return fmt.Sprintf("%d messages echoed, %.0f/s, p50 %.1f ms, p99 %.1f ms, max %.0f ms; %d handshakes, max %.0f ms; %d reopened; %d errors; %d messages lost to a 1001 close",
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

// end stops wsload and returns its report.
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

// wantOnly1001 wants no errors, so no refused handshakes and no cut connections, and no closes but
// those with 1001. It returns the number of those.
func (r loadReport) wantOnly1001(t *testing.T) (goingAway uint64) {
	t.Helper()
	if r.Errors.Total > 0 {
		t.Errorf("%d errors: %s", r.Errors.Total, r.Errors.Kinds)
	}
	crossed := uint64(0)
	for _, c := range r.Closes {
		if c.Code != 1001 {
			t.Errorf("%d connections were closed with %d, want 1001", c.Connections, c.Code)
			continue
		}
		goingAway, crossed = c.Connections, c.Lost
	}
	if r.Lost != crossed {
		t.Errorf("%d messages were lost on connections that were not closed with 1001", r.Lost-crossed)
	}
	return goingAway
}

// ready reports whether /readyz returns 200.
func (s *server) ready() bool {
	response, err := http.Get("http://" + s.admin + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}
