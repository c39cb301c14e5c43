package e2e

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestDrain(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := start(t)
			fresh, idle, inMessage, inFrame := s.upgrade(t), s.upgrade(t), s.upgrade(t), s.upgrade(t)
			unasked, halfAsked := s.dial(t), s.dial(t)
			halfAsked.sendRaw([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))

			idle.send(text("Hello"))
			idle.want(text("Hello"))

			first := unfinished(text("the rest never comes"))
			inMessage.send(first)
			inMessage.want(first)

			// The ping behind it is answered only once the half frame is read, so nothing of it is still on its way.
			late := encode(text("finished too late"))
			inFrame.send(ping("here"))
			inFrame.want(pong("here"))
			inFrame.sendRaw(late[:len(late)/2])

			busy := make(chan error, 10)
			for i := range cap(busy) {
				p := s.upgrade(t)
				go func() { busy <- echoUntilClosed(p.wire, text(fmt.Sprint("busy ", i))) }()
			}

			s.signal(sig)
			for _, p := range []*peer{fresh, idle, inMessage, inFrame} {
				p.wantFailWith(1001)
			}
			// Who has not upgraded cannot be told.
			unasked.wantGone()
			halfAsked.wantGone()
			eventually(t, "nobody new is let in", func() bool {
				w, err := connect(s.addr)
				if err == nil {
					w.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			// What comes after the server's close gets no echo, only its end.
			idle.send(text("too late"), closing(1001, ""))
			inFrame.sendRaw(append(late[len(late)/2:], encode(closing(1001, ""))...))
			fresh.send(closing(1001, ""))
			inMessage.send(closing(1001, ""))
			for _, p := range []*peer{fresh, idle, inMessage, inFrame} {
				p.wantEOF()
			}
			for range cap(busy) {
				if err := <-busy; err != nil {
					t.Error(err)
				}
			}
			s.wantStopped()
		})
	}
}

// echoUntilClosed keeps a conversation going until the server closes it with 1001, and answers that.
func echoUntilClosed(w *wire, message frame) error {
	for {
		// The server may have closed already; what it said can be read all the same.
		sendErr := w.send(message)
		got, err := w.read()
		switch {
		case err != nil:
			return errors.Join(err, sendErr)
		case got.String() == message.String():
			continue
		case !got.closes(1001):
			return fmt.Errorf("got %v, want a close 1001", got)
		}
		if err := w.send(closing(1001, "")); err != nil {
			return err
		}
		return w.expectEOF()
	}
}

func TestDrainWithoutConnections(t *testing.T) {
	s := start(t)
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited %v for nobody", took)
	}
}

func TestDrainTimeout(t *testing.T) {
	const timeout = 500 * time.Millisecond
	s := start(t, "-drain-timeout", timeout.String())
	silent, deaf := s.upgrade(t), s.upgrade(t)
	deaf.fillUp()
	began := time.Now()
	s.signal(syscall.SIGTERM)
	silent.wantFailWith(1001)
	silent.wantGone() // we never answered
	if took := time.Since(began); took < timeout/2 || took > timeout+5*time.Second {
		t.Errorf("cut after %v, want about %v", took, timeout)
	}
	s.wantStopped()
}

// fillUp sends and does not read, until neither side's sockets take any more.
func (p *peer) fillUp() {
	p.t.Helper()
	message := encode(bin(make([]byte, 64<<10)))
	for {
		p.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := p.Write(message)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		p.check(err)
	}
}

func TestSecondSignal(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := start(t, "-drain-timeout", "1h")
			p := s.upgrade(t)
			s.signal(sig)
			p.wantFailWith(1001) // so the drain has begun, and would wait an hour for our answer
			s.signal(sig)
			if code := s.exitCode(); code == 0 {
				t.Error("exit status 0, as if everybody had left")
			}
		})
	}
}
