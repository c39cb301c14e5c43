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
			noRequest, halfRequest := s.dial(t), s.dial(t)
			halfRequest.sendRaw([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))

			idle.send(text("Hello"))
			idle.want(text("Hello"))

			first := unfinished(text("the rest never comes"))
			inMessage.send(first)
			inMessage.want(first)

			// The pong shows that the server has read everything sent before.
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
			// Connections without an upgrade cannot get a close frame.
			noRequest.wantDisconnect()
			halfRequest.wantDisconnect()
			eventually(t, "new connections are refused", func() bool {
				w, err := connect(s.addr)
				if err == nil {
					w.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			// Input after the server's close frame is not echoed; the connection ends.
			idle.send(text("too late"), closeFrame(1001, ""))
			inFrame.sendRaw(append(late[len(late)/2:], encode(closeFrame(1001, ""))...))
			fresh.send(closeFrame(1001, ""))
			inMessage.send(closeFrame(1001, ""))
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

// echoUntilClosed echoes messages until the server closes the connection with 1001, and answers the
// close.
func echoUntilClosed(w *wire, message frame) error {
	for {
		// If the server has closed already, its close frame can still be read.
		sendErr := w.send(message)
		got, err := w.read()
		switch {
		case err != nil:
			return errors.Join(err, sendErr)
		case got.String() == message.String():
			continue
		case !got.closes(1001):
			return fmt.Errorf("got %v, want a close frame with 1001", got)
		}
		if err := w.send(closeFrame(1001, "")); err != nil {
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
		t.Errorf("the drain took %v without connections, want at most 5s", took)
	}
}

func TestDrainTimeout(t *testing.T) {
	const timeout = 500 * time.Millisecond
	s := start(t, "-drain-timeout", timeout.String())
	silent, unread := s.upgrade(t), s.upgrade(t)
	unread.fillBuffers()
	began := time.Now()
	s.signal(syscall.SIGTERM)
	silent.wantFailWith(1001)
	silent.wantDisconnect() // without an answer to the close frame
	if took := time.Since(began); took < timeout/2 || took > timeout+5*time.Second {
		t.Errorf("disconnected after %v, want about %v", took, timeout)
	}
	s.wantStopped()
}

// fillBuffers sends without reading until the socket buffers of both sides are full.
func (p *peer) fillBuffers() {
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

func TestSecondSignalExitsAtOnce(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := start(t, "-drain-timeout", "1h")
			p := s.upgrade(t)
			s.signal(sig)
			p.wantFailWith(1001) // the drain has begun, and would wait an hour for the answer
			s.signal(sig)
			if code := s.exitCode(); code == 0 {
				t.Error("got exit status 0 after a second signal, want another")
			}
		})
	}
}
