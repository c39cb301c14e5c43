package netpoll

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPeerAndSent(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := Listen(addr)
		if err != nil {
			t.Skip(addr, err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fd := -1
		for end := time.Now().Add(10 * time.Second); fd < 0 && time.Now().Before(end); {
			if fd, _, err = AcceptFrom(l.FD); err != nil {
				t.Fatal(err)
			}
		}
		defer Close(fd)
		if got, want := Peer(fd), netip.MustParseAddrPort(c.LocalAddr().String()); got != want {
			t.Errorf("peer %v, want %v", got, want)
		}
		if n, err := Send(fd, []byte("four")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		if sent, ok := Sent(fd); sent != 4 || !ok {
			t.Errorf("%d bytes sent, %v; want 4", sent, ok)
		}
	}
}

// A unix socket has no address with a port, and nobody counts its bytes.
func TestPeerOfUnixSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(pair[0])
	defer Close(pair[1])
	if p := Peer(pair[0]); p.IsValid() {
		t.Errorf("peer %v", p)
	}
	if _, ok := Sent(pair[0]); ok {
		t.Error("bytes are counted")
	}
}
