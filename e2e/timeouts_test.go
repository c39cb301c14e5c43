package e2e

import (
	"bufio"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestIdleTimeout(t *testing.T) {
	s := start(t, "-idle-timeout", "600ms")
	t.Run("a silent peer is pinged, then closed", func(t *testing.T) {
		t.Parallel()
		p := s.upgrade(t)
		f, err := p.read()
		p.check(err)
		if f.op != opPing {
			t.Fatalf("got %v, want a ping first", f)
		}
		for f.op == opPing {
			f, err = p.read()
			p.check(err)
		}
		if !f.closes(1001) {
			t.Fatalf("got %v, want a close frame with 1001", f)
		}
	})
	t.Run("a peer that answers pings stays connected", func(t *testing.T) {
		t.Parallel()
		p := s.upgrade(t)
		for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
			f, err := p.read()
			p.check(err)
			if f.op != opPing {
				t.Fatalf("got %v, want a ping", f)
			}
			p.send(pong(string(f.payload)))
		}
		p.closes()
	})
}

// The server stops reading from a peer that does not read. Other connections are not affected, and
// the peer gets every byte once it reads.
func TestBackpressureLosesNothing(t *testing.T) {
	s := start(t)
	p, other := s.upgrade(t), s.upgrade(t)
	message := random(opBinary, 64<<20)
	if raceEnabled || testing.Short() {
		message = message[:24<<20]
	}
	p.sendAsync(whole, fragments(opBinary, message, 1<<20)...)
	for range 1000 {
		other.send(text("another connection"))
		other.want(text("another connection"))
	}
	if rss := s.residentBytes(); !raceEnabled && rss > 40<<20 {
		t.Errorf("got %d MiB resident with a peer that does not read, want at most 40", rss>>20)
	}
	p.wantMessage(opBinary, message)
	p.wantSent()
	p.closes()
	other.closes()
}

func TestWriteTimeout(t *testing.T) {
	s := start(t, "-write-timeout", "500ms")
	before := s.descriptors()
	p := s.upgrade(t)
	p.fillBuffers()
	s.wantDescriptors(before)
}

// -write-timeout disconnects peers that stop reading, read almost nothing, or never read, but not
// those that read slowly and steadily. Receive buffers are small, so that TCP acknowledges in small
// steps.
func TestWriteTimeoutOfSlowPeers(t *testing.T) {
	const timeout = 3 * time.Second
	s := start(t, "-write-timeout", timeout.String())
	for _, c := range []struct {
		name  string
		rate  int           // bytes read per second
		until time.Duration // time after which the peer stops reading
		stays bool
		most  time.Duration // time within which a peer is disconnected, unless it stays
	}{
		{name: "steady", rate: 32 << 10, until: time.Hour, stays: true},
		{name: "slow", rate: 8 << 10, until: time.Hour, stays: true},
		{name: "stops", rate: 32 << 10, until: timeout, most: 4 * timeout},
		{name: "trickles", rate: 20, until: time.Hour, most: 3 * timeout},
		{name: "reads nothing", most: timeout * 5 / 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := s.upgradeWithReceiveBuffer(t, 4<<10)
			began := time.Now()
			var wrote atomic.Int64 // time of the last write, after which all buffers are full
			cut := make(chan time.Time, 1)
			go func() {
				message := encode(bin(make([]byte, 64<<10)))
				for {
					if _, err := p.Write(message); err != nil { // reset, or closed by the test
						cut <- time.Now()
						return
					}
					wrote.Store(int64(time.Since(began)))
				}
			}()
			var at time.Time
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			end := time.After(4 * timeout)
			if !c.stays {
				end = time.After(8 * timeout) // a busy machine takes seconds to fill the buffers
			}
			for read, more := 0, true; more; {
				select {
				case at = <-cut:
					more = false
				case <-end:
					more = false
				case <-tick.C:
					passed := time.Since(began)
					due := int(min(passed, c.until).Seconds()*float64(c.rate)) - read
					if due <= 0 {
						continue
					}
					p.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					n, _ := p.Conn.Read(make([]byte, due)) // Write returns the error too
					read += n
				}
			}
			switch there := at.Sub(began); {
			case c.stays && !at.IsZero():
				t.Errorf("disconnected after %v, want no timeout, since the peer reads steadily", there)
			case !c.stays && at.IsZero():
				t.Errorf("not disconnected within %v", 8*timeout)
			case !c.stays && (there < timeout-timeout/10 || there-time.Duration(wrote.Load()) > c.most):
				t.Errorf("disconnected after %v, %v after the last write, want at least %v and at most %v",
					there, there-time.Duration(wrote.Load()), timeout-timeout/10, c.most)
			}
		})
	}
}

// upgradeWithReceiveBuffer is upgrade for a peer with a receive buffer of the given size.
func (s *server) upgradeWithReceiveBuffer(t *testing.T, size int) *peer {
	t.Helper()
	dialer := net.Dialer{Timeout: waitTimeout, Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size)
		})
		return errors.Join(controlErr, err)
	}}
	conn, err := dialer.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	w, err := (&wire{conn, bufio.NewReader(conn)}).upgrade()
	return newPeer(t, w, err)
}

// The server closes its descriptor after a closing handshake, a failure or a refusal, even if the
// peer never closes its side.
func TestPeerThatNeverClosesTCP(t *testing.T) {
	s := start(t)
	before := s.descriptors()
	closed, failed, refused := s.upgrade(t), s.upgrade(t), s.dial(t)
	closed.send(closeFrame(1000, ""))
	closed.want(closeFrame(1000, ""))
	failed.send(reserved(1, text("")))
	failed.wantFailWith(1002)
	refused.sendRaw([]byte("garbage\r\n\r\n"))
	s.wantDescriptors(before)
}
