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

// Witnesses are well-behaved connections that are served while others attack:
// each says a message, waits for its echo, verifies it, rests a little, and
// says the next. They live in a process of their own, so that the
// suite's work, its garbage collection and its low priority do not count as
// the server's slowness.
type witnesses struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// witnessTopic is mostly short messages, now and then one that is longer than the server's buffer.
var witnessTopic = &topic{most: 300 << 10, fragmented: 20, pinged: 10}

const (
	longestRest = 20 * time.Millisecond // between two messages

	// hopeless is how long a witness waits for an echo until it is lost.
	hopeless = time.Minute
)

// order is what a witness process is started with, in an environment variable.
type order struct {
	Addr  string
	Seed  uint64
	Count int
}

const orderVariable = "WSECHO_CHAOS_WITNESS"

// testimony is what witnesses say of the time since they were last asked.
type testimony struct {
	Messages int           // echoed
	Payload  int           // bytes of them
	Received int           // bytes, headers and all
	P50      time.Duration // of the time from saying a message to having all of its echo
	P99      time.Duration
	Max      time.Duration // of those that still wait, too
	Late     time.Duration // the most that a witness was woken too late from its rest: the machine's doing
	Alive    int
	Told     int      // how many were told 1001
	Trouble  []string // everything that may not happen to a witness

	// Unanswered is when the first message was sent that was answered with 1001 in place of an echo.
	Unanswered time.Time
}

func (s *server) witnesses(seed uint64, count int) *witnesses {
	s.t.Helper()
	what, err := json.Marshal(order{Addr: s.addr, Seed: seed, Count: count})
	if err != nil {
		s.t.Fatal(err)
	}
	w := &witnesses{t: s.t, cmd: exec.Command(os.Args[0])}
	w.cmd.Env = append(os.Environ(), orderVariable+"="+string(what))
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	w.out = json.NewDecoder(out)
	if err := w.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // it may have ended
		_ = w.cmd.Wait()
	})
	return w
}

// testify asks for what was seen since the last time.
func (w *witnesses) testify() *testimony { return w.ask("testify") }

// outlast waits until all have been told that the server goes away.
func (w *witnesses) outlast() *testimony { return w.ask("outlast") }

func (w *witnesses) ask(what string) *testimony {
	w.t.Helper()
	var said testimony
	if _, err := fmt.Fprintln(w.in, what); err != nil {
		w.t.Fatalf("the witnesses are gone: %v", err)
	}
	if err := w.out.Decode(&said); err != nil {
		w.t.Fatalf("the witnesses are gone: %v", err)
	}
	return &said
}

// bench is where witnesses sit: the witness process.
type bench struct {
	all     []*witness
	sitting sync.WaitGroup

	mu    sync.Mutex // protects what follows
	waits []time.Duration
	said  testimony
}

// witness is one connection.
type witness struct {
	*bench
	dice dice
	conn net.Conn
	ear  listener
	buf  []byte

	since time.Time // it has waited for an echo since then; zero if it does not wait. Protected by mu
}

// bearWitness is the witness process.
func bearWitness(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	var b bench
	for i := range o.Count {
		conn, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return err
		}
		w := &witness{bench: &b, dice: dice(o.Seed).fork(fmt.Sprint("witness", i)), conn: conn, buf: make([]byte, 512<<10)}
		b.all = append(b.all, w)
	}
	b.said.Alive = len(b.all)
	for _, w := range b.all {
		b.sitting.Go(w.live)
	}
	answer := json.NewEncoder(os.Stdout)
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		if asked.Text() == "outlast" {
			b.sitting.Wait()
		}
		if err := answer.Encode(b.testify()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) testify() testimony {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.all {
		if !w.since.IsZero() {
			b.said.Max = max(b.said.Max, time.Since(w.since))
		}
	}
	if n := len(b.waits); n > 0 {
		slices.Sort(b.waits)
		b.said.P50, b.said.P99 = b.waits[n/2], b.waits[n*99/100]
		b.said.Max = max(b.said.Max, b.waits[n-1])
	}
	b.waits = b.waits[:0]
	said := b.said
	b.said = testimony{Alive: said.Alive}
	return said
}

// errTold is the end of a witness that was told 1001.
var errTold = errors.New("told 1001")

func (w *witness) live() {
	err := w.speak()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Alive--
	w.said.Received += w.ear.received
	switch {
	case err == errTold:
		w.said.Told++
	case err != nil:
		w.said.Trouble = append(w.said.Trouble, err.Error())
	}
	w.since = time.Time{}
	w.conn.Close()
}

func (w *witness) speak() error {
	if _, err := io.WriteString(w.conn, request); err != nil {
		return err
	}
	if err := w.hear(func() bool { return w.ear.status > 0 }); err != nil {
		return err
	}
	if w.ear.status != 101 {
		return fmt.Errorf("refused: %d", w.ear.status)
	}
	for w.ear.closed == 0 {
		if err := w.exchange(); err != nil {
			return err
		}
		w.rest()
	}
	return w.told(time.Now())
}

// exchange says a message and waits for its echo.
func (w *witness) exchange() error {
	said := newSpeech(witnessTopic, w.dice.roll(), 1)
	w.ear.expect(said)
	n := said.render(w.buf, endless)
	before, began := w.ear.payload, time.Now()
	w.waitSince(began)
	if _, err := w.conn.Write(w.buf[:n]); err != nil {
		return fmt.Errorf("after %d messages: %w", w.ear.messages, err)
	}
	sent := time.Now()
	if err := w.hear(func() bool { return w.ear.content() || w.ear.closed > 0 }); err != nil {
		return fmt.Errorf("after %d messages: %w", w.ear.messages, err)
	}
	if !w.ear.content() {
		return w.told(sent)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Time{}
	w.waits = append(w.waits, time.Since(began))
	w.said.Messages++
	w.said.Payload += w.ear.payload - before
	return nil
}

// rest pauses, and notes how much longer than it was meant to.
func (w *witness) rest() {
	began, pause := time.Now(), time.Duration(w.dice.below(int(longestRest)))
	time.Sleep(pause)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Late = max(w.said.Late, time.Since(began)-pause)
}

func (w *witness) waitSince(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = began
}

// hear reads until enough has come.
func (w *witness) hear(enough func() bool) error {
	if err := w.conn.SetReadDeadline(time.Now().Add(hopeless)); err != nil {
		return err
	}
	for !enough() {
		n, err := w.conn.Read(w.buf)
		if err := w.ear.take(w.buf[:n]); err != nil {
			return err
		}
		if err != nil && !enough() {
			return err
		}
	}
	return nil
}

// told answers a close frame that came in place of the echo of what was sent then.
func (w *witness) told(sent time.Time) error {
	if w.ear.closed != int(ws.StatusGoingAway) {
		return fmt.Errorf("closed with %d after %d messages", w.ear.closed, w.ear.messages)
	}
	w.mu.Lock()
	if first := w.said.Unanswered; first.IsZero() || sent.Before(first) {
		w.said.Unanswered = sent
	}
	w.mu.Unlock()
	if _, err := w.conn.Write(closeFrame(ws.StatusGoingAway)); err != nil {
		return fmt.Errorf("told 1001: %w", err)
	}
	if err := w.hear(func() bool { return false }); err != io.EOF {
		return fmt.Errorf("told 1001, and then: %w", err)
	}
	return errTold
}

// closeFrame is a client's close frame. Its mask is zero.
func closeFrame(code ws.StatusCode) []byte {
	return append(putHeader(nil, ws.Header{Fin: true, OpCode: ws.OpClose, Length: 2}), byte(code>>8), byte(code))
}
