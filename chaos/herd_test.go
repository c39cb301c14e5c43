package chaos

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// A herd is thousands of scripted peers on one epoll loop. The loop has a
// thread of its own at the lowest priority: the attackers share the machine's
// processors with the server, and it is the server's time that is to be
// measured. On other machines they would not take it any.
//
// The herd lives only while somebody waits for it (until, lasts): there is
// nothing to lock. All of it belongs to the goroutine of live.
type herd struct {
	t      *testing.T
	server unix.SockaddrInet4
	work   chan func()

	poller *netpoll.Poller
	events []netpoll.Event
	buffer []byte
	now    time.Time

	byFD    map[int]*peer
	gen     uint32
	coming  []*peer // not connected yet
	queue   []*peer // go on at the next pass
	alarms  alarms
	sources int // connections so far; each comes from the next of 250 addresses

	received int // bytes from the server, all that came
	messages int // echoed whole
	payload  int // bytes of them
}

const (
	bite   = 64 << 10 // most that a peer sends or reads before others have their turn
	atOnce = 256      // most new connections in a pass, so that the listener's backlog is not what is tested
)

func newHerd(t *testing.T, addr string) *herd {
	t.Helper()
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := netpoll.New()
	if err != nil {
		t.Fatal(err)
	}
	h := &herd{
		t: t, work: make(chan func()), poller: poller, events: make([]netpoll.Event, 1024),
		server: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()},
		buffer: make([]byte, bite), byFD: map[int]*peer{},
	}
	go h.live()
	t.Cleanup(func() {
		h.do(func() {
			for _, p := range h.byFD {
				netpoll.Close(p.fd)
			}
		})
		close(h.work)
	})
	return h
}

// live is the herd's thread.
func (h *herd) live() {
	runtime.LockOSThread() // and never unlocked: the thread ends with its priority
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	for f := range h.work {
		f()
	}
	h.poller.Close()
}

// do has the herd's thread do something.
func (h *herd) do(f func()) {
	done := make(chan struct{})
	h.work <- func() {
		defer close(done)
		h.now = time.Now()
		f()
	}
	<-done
}

// until lets the herd live until something is so, and fails if it never is.
func (h *herd) until(what string, cond func() bool) {
	h.t.Helper()
	if !h.within(soon, cond) {
		h.t.Fatalf("waited %v, but never: %s. Peers are: %s", soon, what, h.whereabouts())
	}
}

// lasts lets the herd live for some time.
func (h *herd) lasts(d time.Duration) { h.within(d, func() bool { return false }) }

func (h *herd) within(d time.Duration, cond func() bool) (met bool) {
	h.do(func() {
		for deadline := h.now.Add(d); !met && h.now.Before(deadline); met = cond() {
			h.pass(deadline)
		}
	})
	return met
}

// pass waits for something to happen, and has every peer do what follows.
func (h *herd) pass(deadline time.Time) {
	h.connectSome()
	n, _, err := h.poller.Wait(h.events, h.patience(deadline))
	if err != nil {
		panic(err)
	}
	h.now = time.Now()
	for i := range h.events[:n] {
		e := &h.events[i]
		if p := h.byFD[e.FD()]; p != nil && p.gen == e.Gen() {
			p.canRead = p.canRead || e.Readable()
			p.canWrite = p.canWrite || e.Writable()
			p.turn()
		}
	}
	for len(h.alarms) > 0 && !h.alarms[0].at.After(h.now) {
		p := heap.Pop(&h.alarms).(alarm).peer
		p.turn()
	}
	queued := h.queue
	h.queue = nil
	for _, p := range queued {
		p.queued = false
		p.turn()
	}
}

// patience is how long there is nothing to do unless something happens; not
// longer than a moment, for the condition that is waited for may be the server's.
func (h *herd) patience(deadline time.Time) time.Duration {
	if len(h.queue) > 0 || len(h.coming) > 0 {
		return 0
	}
	if len(h.alarms) > 0 && h.alarms[0].at.Before(deadline) {
		deadline = h.alarms[0].at
	}
	return max(0, min(time.Until(deadline), 10*time.Millisecond))
}

// goOn gives a peer another turn at the next pass.
func (h *herd) goOn(p *peer) {
	if !p.queued {
		p.queued = true
		h.queue = append(h.queue, p)
	}
}

// connectSome begins the next few connections.
func (h *herd) connectSome() {
	few := min(len(h.coming), atOnce)
	for _, p := range h.coming[:few] {
		if err := h.connect(p); err != nil {
			p.finish("not connected: " + err.Error())
		}
	}
	h.coming = h.coming[few:]
}

func (h *herd) connect(p *peer) (err error) {
	p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.gen++
	p.gen = h.gen
	h.byFD[p.fd] = p
	h.sources++
	p.came = h.now
	source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + h.sources%250)}}
	for option, value := range p.link.options() {
		if err := unix.SetsockoptInt(p.fd, option.level, option.name, value); err != nil {
			return err
		}
	}
	if err := unix.Bind(p.fd, source); err != nil {
		return err
	}
	if err := unix.Connect(p.fd, &h.server); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return h.poller.Add(p.fd, p.gen, netpoll.ReadWrite)
}

// link is what a peer's end of TCP is like.
type link int

const (
	near   link = iota // the loopback's: segments of 64 KiB, and the server's kernel takes megabytes
	far                // as over Ethernet: segments of 1,448 bytes, and tens of KiB
	narrow             // the smallest of receive buffers as well: the window closes after a few KiB
)

type option struct{ level, name int }

func (l link) options() map[option]int {
	all := map[option]int{
		{unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT}: 1, // one port may serve every source address
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}:        1,
	}
	if l >= far {
		all[option{unix.IPPROTO_TCP, unix.TCP_MAXSEG}] = 1448
		all[option{unix.SOL_SOCKET, unix.SO_SNDBUF}] = 32 << 10
	}
	if l == narrow {
		all[option{unix.SOL_SOCKET, unix.SO_RCVBUF}] = 4 << 10
	}
	return all
}

// A crowd is peers that came for the same purpose.
type crowd struct {
	herd *herd
	name string

	size    int
	open    int            // have not finished their script
	waiting int            // of those: at a gate
	ends    map[string]int // how the others have
	sent    int            // bytes
	payload int            // bytes echoed
	trouble []string       // the first few of what may not happen
}

// crowd calls in n peers, each with its script.
func (h *herd) crowd(name string, n int, l link, d dice, script func(d *dice) []step) *crowd {
	c := &crowd{herd: h, name: name, ends: map[string]int{}}
	h.do(func() {
		for i := range n {
			its := d.fork(fmt.Sprint(name, i))
			c.join(&peer{herd: h, crowd: c, link: l, script: script(&its)})
		}
	})
	return c
}

func (c *crowd) join(p *peer) {
	c.size++
	c.open++
	c.herd.coming = append(c.herd.coming, p)
}

// over says whether all have finished their scripts.
func (c *crowd) over() bool { return c.open == 0 }

// ended waits until all have, and wants each to have ended in one of the given ways.
func (c *crowd) ended(ways ...string) {
	t := c.herd.t
	t.Helper()
	c.herd.until(c.name+" have ended", c.over)
	for how := range c.ends {
		if !slices.Contains(ways, how) {
			c.trouble = append(c.trouble, "ended: "+how)
		}
	}
	if len(c.trouble) > 0 {
		t.Errorf("%d %s: want all to have %s, got %s; first: %s",
			c.size, c.name, strings.Join(ways, " or "), tally(c.ends), strings.Join(c.trouble, "; "))
	}
}

// jammed waits until no peer of a crowd can say any more, for every buffer on
// the way to the server and back is full.
func (h *herd) jammed(c *crowd) {
	h.t.Helper()
	before, since := -1, time.Now()
	h.until(c.name+" are jammed", func() bool {
		if c.sent != before {
			before, since = c.sent, h.now
		}
		return h.now.Sub(since) > 100*time.Millisecond
	})
}

// whereabouts says how far peers are in their scripts.
func (h *herd) whereabouts() string {
	at := map[string]int{}
	h.do(func() {
		for _, p := range h.byFD {
			at[fmt.Sprintf("%s, step %d of %d", p.crowd.name, p.at+1, len(p.script))]++
		}
		if n := len(h.coming); n > 0 {
			at["not connected"] = n
		}
	})
	return tally(at)
}

func tally(counts map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d %s", counts[what], what))
	}
	if all == nil {
		return "nowhere"
	}
	return strings.Join(all, ", ")
}

// A peer is one scripted connection.
type peer struct {
	herd   *herd
	crowd  *crowd
	link   link
	script []step
	at     int // the step that it is at

	fd     int
	gen    uint32
	queued bool
	atGate bool
	over   bool

	canRead, canWrite bool // as far as we know
	mouth             mouth
	ear               listener
	deaf              bool
	sips              pace // how it reads
	ended             bool // the server has ended its side
	broken            error
	mark              int // messages whose echo must come before the server says goodbye
	came, pausedUntil time.Time
	alarmAt           time.Time // there is one, if that is in the future
}

// mouth is what a peer still has to say: bytes, then a speech.
type mouth struct {
	raw    []byte
	speech speech
	said   speech // as it was when it began
	before int    // messages of earlier speeches
	limit  int    // bytes of the speech after which it stops, if it is above 0
	sent   int    // bytes of the speech that the kernel has taken
	window int    // messages that may be without an echo, if it is above 0
	bites  pace   // how it is said
}

// begin begins a speech, whose echo is owed from now on.
func (p *peer) begin(s speech) {
	m := &p.mouth
	m.before += m.speech.whole
	m.speech, m.said, m.sent, m.limit, m.window = s, s, 0, 0, 0
	p.ear.expect(s)
}

// onlyFrame lets the speech end with the frame that it is at.
func (m *mouth) onlyFrame() {
	rest := m.speech.frame.size - m.speech.at
	m.window, m.limit = 0, m.sent+rest
	if rest == 0 {
		m.speech = speech{}
	}
}

// markArrived marks with each peer how many of its messages have arrived whole: the
// server's kernel has acknowledged them.
func (h *herd) markArrived() {
	h.do(func() {
		for _, p := range h.byFD {
			unacknowledged, err := unix.IoctlGetInt(p.fd, unix.SIOCOUTQ)
			if err != nil {
				panic(err)
			}
			arrived := p.mouth.said
			arrived.skip(p.mouth.sent - unacknowledged)
			p.mark = p.mouth.before + arrived.whole
		}
	})
}

// most is how many messages of the speech may be whole now, when so many have been echoed in all.
func (m *mouth) most(echoed int) int {
	if m.window == 0 {
		return endless
	}
	return echoed - m.before + m.window
}

// pace is how fast something is done: so many bytes at a time, so often. Zero is as
// fast as can be.
type pace struct {
	bytes int
	every time.Duration
	next  time.Time // not before
}

func (p *pace) size() int {
	if p.bytes == 0 {
		return bite
	}
	return p.bytes
}

// turn has a peer hear, speak, and go on with its script.
func (p *peer) turn() {
	if p.over {
		return
	}
	p.hear()
	p.speak()
	p.act()
	if p.over {
		return
	}
	if p.wantsToHear() || p.wantsToSpeak() {
		p.herd.goOn(p)
	}
	p.setAlarm()
}

// setAlarm sees to it that the peer has a turn when the first of the times comes
// that it may be waiting for.
func (p *peer) setAlarm() {
	h := p.herd
	pending := p.alarmAt.After(h.now)
	for _, at := range []time.Time{p.sips.next, p.mouth.bites.next, p.pausedUntil} {
		if at.After(h.now) && (!pending || at.Before(p.alarmAt)) {
			pending, p.alarmAt = true, at
			heap.Push(&h.alarms, alarm{at, p})
		}
	}
}

// act takes the script as far as it goes. An end that the script has no use for
// is the end of it.
func (p *peer) act() {
	for !p.over && p.at < len(p.script) && p.script[p.at](p) {
		p.at++
	}
	switch {
	case p.over:
	case p.at == len(p.script):
		p.finish("done")
	case p.broken != nil:
		p.finish(p.broken.Error())
	case p.ended && p.ear.status > 101:
		p.finish(fmt.Sprint(p.ear.status))
	case p.ended:
		p.finish(fmt.Sprintf("ended by the server (close code %d)", p.ear.closed))
	}
}

// finish ends a peer.
func (p *peer) finish(how string) {
	if p.over {
		return
	}
	p.over = true
	c := p.crowd
	c.open--
	c.ends[how]++
	if p.atGate {
		c.waiting--
	}
	c.payload += p.ear.payload
	p.herd.payload += p.ear.payload
	p.herd.messages += p.ear.messages
	if p.fd > 0 {
		delete(p.herd.byFD, p.fd)
		netpoll.Close(p.fd)
	}
}

// fail notes what a peer should never see, and ends it.
func (p *peer) fail(err error) {
	if len(p.crowd.trouble) < 3 {
		p.crowd.trouble = append(p.crowd.trouble, err.Error())
	}
	p.finish("got what was not owed")
}

// wantsToHear says whether there is something to be read at once.
func (p *peer) wantsToHear() bool {
	return p.canRead && !p.deaf && !p.ended && p.broken == nil && !p.sips.next.After(p.herd.now)
}

func (p *peer) hear() {
	if !p.wantsToHear() {
		return
	}
	n, err := netpoll.Recv(p.fd, p.herd.buffer[:p.sips.size()])
	switch {
	case errors.Is(err, io.EOF):
		p.ended = true
		return
	case err != nil:
		p.broken = err
		return
	case n == 0:
		p.canRead = false
		return
	}
	p.herd.received += n
	if err := p.ear.take(p.herd.buffer[:n]); err != nil {
		p.fail(err)
		return
	}
	p.sips.next = p.herd.now.Add(p.sips.every)
}

// hasToSay says whether there is anything to say now.
func (p *peer) hasToSay() bool {
	m := &p.mouth
	if len(m.raw) > 0 {
		return true
	}
	return !m.speech.over() && (m.limit == 0 || m.sent < m.limit) &&
		m.speech.whole < m.most(p.ear.messages)
}

func (p *peer) wantsToSpeak() bool {
	return p.canWrite && p.broken == nil && p.hasToSay() && !p.mouth.bites.next.After(p.herd.now)
}

func (p *peer) speak() {
	if !p.wantsToSpeak() {
		return
	}
	m := &p.mouth
	if len(m.raw) > 0 {
		m.raw = m.raw[p.send(m.raw[:min(len(m.raw), m.bites.size())]):]
	} else {
		next, size := m.speech, m.bites.size()
		if m.limit > 0 {
			size = min(size, m.limit-m.sent)
		}
		n := p.send(p.herd.buffer[:next.render(p.herd.buffer[:size], m.most(p.ear.messages))])
		m.speech.skip(n)
		m.sent += n
	}
	m.bites.next = p.herd.now.Add(m.bites.every)
}

// send says how much the kernel has taken.
func (p *peer) send(b []byte) int {
	n, err := netpoll.Send(p.fd, b)
	if err == unix.EPIPE {
		// The server has reset the connection; what it said before may still be
		// read, or the reset in its place.
		p.canWrite, p.canRead = false, true
		return 0
	}
	if err != nil {
		p.broken = err
	}
	p.canWrite = n == len(b)
	p.crowd.sent += n
	return n
}

// alarms is a heap of peers that have something to do at a time.
type alarms []alarm

type alarm struct {
	at   time.Time
	peer *peer
}

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}
