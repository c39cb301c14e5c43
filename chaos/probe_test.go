package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// Probes are well-behaved connections that use the server during the attacks. Each sends a message,
// waits for its echo, verifies it, pauses, and sends the next. They run in a separate process, so
// that the suite's load, garbage collection and low priority are not measured as latency of the
// server.
type probes struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// probeTraffic has mostly short messages, and now and then one that is longer than the server's
// buffer.
var probeTraffic = &traffic{maxSize: 300 << 10, fragmented: 20, pinged: 10}

const (
	longestPause = 20 * time.Millisecond // between two messages

	// lostAfter is the time after which an echo counts as lost.
	lostAfter = time.Minute
)

// probeConfig is the configuration of a probe process, in JSON in an environment variable.
type probeConfig struct {
	Addr  string
	Seed  uint64
	Count int
}

const probeConfigVariable = "WSECHO_CHAOS_PROBES"

// probeStats holds what the probes measured since they were last asked.
type probeStats struct {
	Messages  int           // echoed messages
	Payload   int           // their payload bytes
	Received  int           // bytes received by closed probes, headers included
	P50       time.Duration // median time from sending a message to the end of its echo
	P99       time.Duration
	Max       time.Duration // includes waits that have not ended
	Late      time.Duration // longest delay with which a probe woke from a pause
	Open      int           // open probes
	GoingAway int           // probes that were closed with 1001
	Failures  []string

	// Unanswered is the time at which the first message was sent that got a close with 1001 instead
	// of an echo.
	Unanswered time.Time
}

func (s *server) probes(seed uint64, count int) *probes {
	s.t.Helper()
	what, err := json.Marshal(probeConfig{Addr: s.addr, Seed: seed, Count: count})
	if err != nil {
		s.t.Fatal(err)
	}
	p := &probes{t: s.t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), probeConfigVariable+"="+string(what))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // the process may have ended
		_ = p.cmd.Wait()
	})
	return p
}

// takeStats returns the measurements since the last call.
func (p *probes) takeStats() *probeStats { return p.ask("stats") }

// waitClosed waits until the server has closed all probes.
func (p *probes) waitClosed() *probeStats { return p.ask("wait closed") }

func (p *probes) ask(what string) *probeStats {
	p.t.Helper()
	var stats probeStats
	if _, err := fmt.Fprintln(p.in, what); err != nil {
		p.t.Fatalf("the probe process does not answer: %v", err)
	}
	if err := p.out.Decode(&stats); err != nil {
		p.t.Fatalf("the probe process does not answer: %v", err)
	}
	return &stats
}

// probeProcess is the state of the probe process.
type probeProcess struct {
	all     []*probe
	running sync.WaitGroup

	mu    sync.Mutex // protects waits and stats
	waits []time.Duration
	stats probeStats
}

// probe is one connection.
type probe struct {
	*probeProcess
	rng      rng
	conn     net.Conn
	verifier verifier
	buf      []byte

	since time.Time // start of the current wait for an echo; zero if there is none. Protected by mu
}

// runProbes is the main function of the probe process.
func runProbes(text string) error {
	var o probeConfig
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	var pp probeProcess
	for i := range o.Count {
		conn, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return err
		}
		p := &probe{probeProcess: &pp, rng: rng(o.Seed).fork(fmt.Sprint("probe", i)), conn: conn, buf: make([]byte, 512<<10)}
		pp.all = append(pp.all, p)
	}
	pp.stats.Open = len(pp.all)
	for _, p := range pp.all {
		pp.running.Go(p.run)
	}
	answer := json.NewEncoder(os.Stdout)
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		if asked.Text() == "wait closed" {
			pp.running.Wait()
		}
		if err := answer.Encode(pp.takeStats()); err != nil {
			return err
		}
	}
	return nil
}

func (pp *probeProcess) takeStats() probeStats {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	for _, p := range pp.all {
		if !p.since.IsZero() {
			pp.stats.Max = max(pp.stats.Max, time.Since(p.since))
		}
	}
	if n := len(pp.waits); n > 0 {
		slices.Sort(pp.waits)
		pp.stats.P50, pp.stats.P99 = pp.waits[n/2], pp.waits[n*99/100]
		pp.stats.Max = max(pp.stats.Max, pp.waits[n-1])
	}
	pp.waits = pp.waits[:0]
	stats := pp.stats
	pp.stats = probeStats{Open: stats.Open}
	return stats
}

// errGoingAway is the end of a probe that the server closed with 1001.
var errGoingAway = errors.New("closed with 1001")

func (p *probe) run() {
	err := p.converse()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Open--
	p.stats.Received += p.verifier.received
	switch {
	case err == errGoingAway:
		p.stats.GoingAway++
	case err != nil:
		p.stats.Failures = append(p.stats.Failures, err.Error())
	}
	p.since = time.Time{}
	p.conn.Close()
}

func (p *probe) converse() error {
	if _, err := io.WriteString(p.conn, request); err != nil {
		return err
	}
	if err := p.read(func() bool { return p.verifier.status > 0 }); err != nil {
		return err
	}
	if p.verifier.status != 101 {
		return fmt.Errorf("handshake refused with status %d", p.verifier.status)
	}
	for p.verifier.closed == 0 {
		if err := p.exchange(); err != nil {
			return err
		}
		p.pause()
	}
	return p.answerClose(time.Now())
}

// exchange sends a message and waits for its echo.
func (p *probe) exchange() error {
	message := newStream(probeTraffic, p.rng.next(), 1)
	p.verifier.expect(message)
	n := message.render(p.buf, endless)
	before, began := p.verifier.payload, time.Now()
	p.waitSince(began)
	if _, err := p.conn.Write(p.buf[:n]); err != nil {
		return fmt.Errorf("after %d echoed messages: %w", p.verifier.messages, err)
	}
	sent := time.Now()
	if err := p.read(func() bool { return p.verifier.complete() || p.verifier.closed > 0 }); err != nil {
		return fmt.Errorf("after %d echoed messages: %w", p.verifier.messages, err)
	}
	if !p.verifier.complete() {
		return p.answerClose(sent)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Time{}
	p.waits = append(p.waits, time.Since(began))
	p.stats.Messages++
	p.stats.Payload += p.verifier.payload - before
	return nil
}

// pause sleeps for a random time, and records by how much it woke late.
func (p *probe) pause() {
	began, pause := time.Now(), time.Duration(p.rng.intN(int(longestPause)))
	time.Sleep(pause)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Late = max(p.stats.Late, time.Since(began)-pause)
}

func (p *probe) waitSince(began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = began
}

// read reads until enough reports true.
func (p *probe) read(enough func() bool) error {
	if err := p.conn.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
		return err
	}
	for !enough() {
		n, err := p.conn.Read(p.buf)
		if err := p.verifier.verify(p.buf[:n]); err != nil {
			return err
		}
		if err != nil && !enough() {
			return err
		}
	}
	return nil
}

// answerClose answers a close frame that arrived instead of the echo of the message sent at the
// given time.
func (p *probe) answerClose(sent time.Time) error {
	if p.verifier.closed != int(ws.StatusGoingAway) {
		return fmt.Errorf("closed with %d after %d echoed messages, want 1001", p.verifier.closed, p.verifier.messages)
	}
	p.mu.Lock()
	if first := p.stats.Unanswered; first.IsZero() || sent.Before(first) {
		p.stats.Unanswered = sent
	}
	p.mu.Unlock()
	if _, err := p.conn.Write(closeFrame(ws.StatusGoingAway)); err != nil {
		return fmt.Errorf("answer close 1001: %w", err)
	}
	if err := p.read(func() bool { return false }); err != io.EOF {
		return fmt.Errorf("after close 1001, want EOF: %w", err)
	}
	return errGoingAway
}

// closeFrame returns a client's close frame, with a mask of zeros.
func closeFrame(code ws.StatusCode) []byte {
	return append(putHeader(nil, ws.Header{Fin: true, OpCode: ws.OpClose, Length: 2}), byte(code>>8), byte(code))
}
