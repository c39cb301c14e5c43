package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wsecho/internal/format"
	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

const (
	// The server and the generator have one event loop each, because the machine has about two
	// CPUs.
	workers = "1"

	bufferBudget = 64 << 20 // -buffer-budget of the server, in bytes

	// connectionsPerSource is the number of connections per source address. It is less than the
	// default range of 28,232 ports, because the kernel takes longer to find one of the last free
	// ports.
	connectionsPerSource = 20_000

	// timeout applies to handshakes, replies and closes. It is long because an emulated machine is
	// slow; delays show in the latencies.
	timeout = time.Hour

	snapshotInterval = 10 * time.Second

	stopTimeout = 30 * time.Second
)

// serverNeeds is the server's configuration, from which its memory and descriptors are computed.
var serverNeeds = limits.Server{Workers: 1, BufferSize: pool.BufferSize, BufferBudget: bufferBudget}

// measure opens the requested number of connections, or as many as the machine allows, and returns
// their memory use and latency.
func (s *settings) measure(out io.Writer, signals <-chan os.Signal) (*result, error) {
	m, err := limits.Here()
	if err != nil {
		return nil, err
	}
	all := m.Of(limits.Load{Descriptors: serverNeeds.Descriptors(), Memory: serverNeeds.Memory(), Ends: 2})
	for _, l := range limits.Short(all, int64(s.connections)) {
		fmt.Fprintln(out, "limit too low:", l.Shortage(int64(s.connections)))
	}
	connections := min(s.connections, int(limits.Smallest(all).Allows()))
	if connections < 1 {
		return nil, errors.New("this machine allows no connection")
	}
	handshakes := s.handshakes
	for _, queue := range []int64{m.Somaxconn / 2, m.SynBacklog / 2, m.PacketQueue / 4} { // beyond this, SYNs are lost and sent again 1 s later
		if queue > 0 {
			handshakes = min(handshakes, int(queue))
		}
	}
	fmt.Fprintf(out, "%s connections, at most %s concurrent handshakes, %d messages per second\n", format.Thousands(int64(connections)), format.Thousands(int64(handshakes)), s.rate)

	server, url, err := startServer(s.server, connections)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	before, err := takeSnapshot(server.pid(), 0)
	if err != nil {
		return nil, err
	}
	round := time.Duration(float64(connections) / float64(s.rate) * float64(time.Second)).Round(time.Second)
	args := []string{"-json", "-leave", "-url", url, "-pid", strconv.Itoa(server.pid()), "-connections", strconv.Itoa(connections),
		"-source", strconv.Itoa((connections-1)/connectionsPerSource + 1), "-handshakes", strconv.Itoa(handshakes),
		"-rate", strconv.Itoa(s.rate), "-warmup", (round + 2*time.Second).String(), "-duration", (round + 2*time.Second).String(),
		"-timeout", timeout.String(), "-workers", workers, "-interval", snapshotInterval.String()}
	load, reports, err := startLoad(s.load, args...)
	if err != nil {
		return nil, err
	}
	defer load.kill()
	r := &result{Asked: s.connections, Connections: connections, Rate: s.rate, Server: server.command(), Load: load.command(), Began: time.Now().UTC(),
		CPUs: runtime.NumCPU(), Emulated: emulated()}
	full, err := monitor(out, r, server, load, reports, before, signals)
	if err != nil {
		return nil, err
	}
	r.count(before, full)
	return r, nil
}

// monitor takes snapshots at intervals until the generator has reported. It returns the last one
// taken while all connections were open; the generator closes them after its report.
func monitor(out io.Writer, r *result, server, load *process, reports <-chan report, before snapshot, signals <-chan os.Signal) (full snapshot, err error) {
	began := time.Now()
	others := int64(r.Connections / 100) // allowance for TCP sockets of other programs
	ticker := time.NewTicker(min(snapshotInterval, time.Second))
	defer ticker.Stop()
	lastSnapshot := time.Time{}
	for {
		select {
		case report, ok := <-reports:
			if !ok {
				err := <-load.ended
				load.ended <- err
				return full, fmt.Errorf("%s ended without a report: %v\n%s", load.command(), err, load.stderr.String()) //nolint:errorlint // nil after status 0
			}
			r.Report = report
			if report.Messages == 0 {
				return full, fmt.Errorf("no reply was received in the measured time\n%s", load.stderr.String())
			}
			if full.sockets == 0 {
				return full, errors.New("no connection was open in any snapshot")
			}
			return full, nil
		case err := <-server.ended:
			server.ended <- err
			return full, fmt.Errorf("the server exited: %v\n%s", err, server.stderr.String()) //nolint:errorlint // nil after status 0
		case sig := <-signals:
			return full, fmt.Errorf("interrupted by signal: %v", sig)
		case <-ticker.C:
			inUse, _, err := tcpSockets()
			if err != nil {
				return full, err
			}
			ends := inUse - before.sockets
			if allOpen := ends >= 2*int64(r.Connections)-others; allOpen && r.Opening == 0 {
				r.Opening = time.Since(began).Seconds()
				fmt.Fprintf(out, "%6.0f s  all connections are open\n", r.Opening)
			}
			if time.Since(lastSnapshot) < snapshotInterval {
				continue
			}
			lastSnapshot = time.Now()
			s, err := takeSnapshot(server.pid(), load.pid())
			if err != nil {
				return full, err
			}
			fmt.Fprintf(out, "%6.0f s  %9s TCP sockets, server RSS %s, free memory %s\n", time.Since(began).Seconds(),
				format.Thousands(s.sockets), format.Bytes(s.server), format.Bytes(s.free))
			if s.sockets >= full.sockets-others {
				full = s
			}
		}
	}
}

// A process is a running program.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan error // receives the exit error
}

func (p *process) begin() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) command() string { return strings.Join(p.cmd.Args, " ") }

// stop sends SIGTERM to the process, and kills it if it has not exited after stopTimeout.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have exited already
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

// kill kills the process, and waits for its end for at most stopTimeout: an emulated machine takes
// longer to close a million sockets than the whole measurement took.
func (p *process) kill() {
	p.cmd.Process.Kill()
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
	}
}

// startLoad starts wsload. wsload sends its report before it closes its connections; if it exits
// without a report, reports is closed.
func startLoad(program string, args ...string) (p *process, reports <-chan report, err error) {
	p = &process{cmd: exec.Command(program, args...), ended: make(chan error, 1)}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, &p.stderr
	err = p.begin()
	w.Close() // wsload has its own copy
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	found := make(chan report, 1)
	go func() {
		defer r.Close()
		defer close(found)
		var one report
		if json.NewDecoder(r).Decode(&one) == nil {
			found <- one
		}
	}()
	return p, found, nil
}

// startServer starts wsecho, and waits up to a minute until it accepts connections.
func startServer(program string, connections int) (p *process, url string, err error) {
	p = &process{cmd: exec.Command(program, "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-workers", workers, "-max-conns", strconv.Itoa(connections),
		"-buffer-budget", fmt.Sprintf("%dMiB", bufferBudget>>20), "-handshake-timeout", timeout.String(), "-log", "json"), ended: make(chan error, 1)}
	log := &serverLog{text: &p.stderr, serving: make(chan string, 1)}
	p.cmd.Stderr = log
	if err := p.begin(); err != nil {
		return nil, "", err
	}
	select {
	case addr := <-log.serving:
		return p, "ws://" + addr + "/", nil
	case err := <-p.ended:
		return nil, "", fmt.Errorf("%s: %w\n%s", p.command(), err, p.stderr.String())
	case <-time.After(time.Minute):
		p.stop()
		return nil, "", fmt.Errorf("%s did not start serving within 1 minute: %s", p.command(), p.stderr.String())
	}
}

// serverLog collects the server's log, and sends the address that the server listens on to serving.
// text may be read when the server has exited.
type serverLog struct {
	text    *bytes.Buffer
	line    []byte
	serving chan string
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.text.Write(p)
	for _, b := range p {
		if l.line = append(l.line, b); b != '\n' {
			continue
		}
		var entry struct {
			Msg    string
			Listen []string
		}
		if json.Unmarshal(l.line, &entry) == nil && entry.Msg == "serving" && len(entry.Listen) == 1 {
			l.serving <- entry.Listen[0]
		}
		l.line = l.line[:0]
	}
	return len(p), nil
}

// emulated reports whether this machine runs in QEMU's software emulation (TCG).
func emulated() bool {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && strings.Contains(string(cpu), "QEMU TCG")
}
