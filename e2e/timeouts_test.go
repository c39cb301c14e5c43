package e2e

import (
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
			t.Fatalf("got %v, want a close 1001", f)
		}
	})
	t.Run("a peer that answers pings stays", func(t *testing.T) {
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

// A peer that does not read stops being read, harms nobody, and loses nothing once it reads.
func TestBackpressure(t *testing.T) {
	s := start(t)
	p, other := s.upgrade(t), s.upgrade(t)
	message := random(opBinary, 64<<20)
	if raceEnabled || testing.Short() {
		message = message[:24<<20]
	}
	p.sendAside(whole, fragments(opBinary, message, 1<<20)...)
	for range 1000 {
		other.send(text("not my problem"))
		other.want(text("not my problem"))
	}
	if rss := s.residentBytes(); !raceEnabled && rss > 40<<20 {
		t.Errorf("the server holds %d MiB for a peer that does not read", rss>>20)
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
	p.fillUp()
	s.wantDescriptors(before)
}

// Who never hangs up after the closing handshake does not keep the server's descriptor.
func TestPeerThatNeverHangsUp(t *testing.T) {
	s := start(t)
	before := s.descriptors()
	closed, failed, refused := s.upgrade(t), s.upgrade(t), s.dial(t)
	closed.send(closing(1000, ""))
	closed.want(closing(1000, ""))
	failed.send(reserved(1, text("")))
	failed.wantFailWith(1002)
	refused.sendRaw([]byte("garbage\r\n\r\n"))
	s.wantDescriptors(before)
}
