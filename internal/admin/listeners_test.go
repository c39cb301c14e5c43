package admin

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// The server serves and closes all listeners, and reports the failure of one.
func TestAllListenersAreServed(t *testing.T) {
	h := newHarness(t)
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	s := Start(listeners, h.server.cfg)
	for _, l := range listeners {
		(&harness{t: t, addr: l.Addr().String()}).wants("/version", http.StatusOK, "1.2.3")
	}
	listeners[1].Close()
	listeners[2].Close()
	select {
	case err := <-s.Failed():
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("got error %v, want net.ErrClosed", err)
		}
	case <-time.After(soon):
		t.Error("timed out waiting for Failed")
	}
	s.Close()
	if c, err := net.Dial("tcp", listeners[0].Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("dial after Close: got error %v, want ECONNREFUSED", err)
	}
}
