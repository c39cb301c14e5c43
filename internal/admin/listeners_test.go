package admin

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// All listeners are served, and closed in the end. The failure of one is the server's.
func TestSeveralListeners(t *testing.T) {
	o := opens(t)
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	s := Start(listeners, o.server.cfg)
	for _, l := range listeners {
		(&harness{t: t, addr: l.Addr().String()}).wants("/version", http.StatusOK, "1.2.3")
	}
	listeners[1].Close()
	listeners[2].Close()
	select {
	case err := <-s.Failed():
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("it fails with %v", err)
		}
	case <-time.After(soon):
		t.Error("nothing is told of the listener that failed")
	}
	s.Close()
	if c, err := net.Dial("tcp", listeners[0].Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("it still listens: %v", err)
	}
}
