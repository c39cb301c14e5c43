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
		fd, accepted := -1, netip.AddrPort{}
		for end := time.Now().Add(10 * time.Second); fd < 0 && time.Now().Before(end); {
			if fd, accepted, err = AcceptFrom(l.FD); err != nil {
				t.Fatal(err)
			}
		}
		defer Close(fd)
		want := netip.MustParseAddrPort(c.LocalAddr().String())
		if got, err := Peer(fd); got != want || err != nil || accepted != want {
			t.Errorf("got peer %v, %v, accepted from %v; want %v", got, err, accepted, want)
		}
		if n, err := Send(fd, []byte("four")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		if sent, ok := Sent(fd); sent != 4 || !ok {
			t.Errorf("got %d bytes sent, %v; want 4, true", sent, ok)
		}
	}
}

// A unix socket has no address with a port, and the kernel does not count its bytes.
func TestPeerOfUnixSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(pair[0])
	defer Close(pair[1])
	if p, err := Peer(pair[0]); p.IsValid() || err != nil {
		t.Errorf("got peer %v, %v; want the zero AddrPort", p, err)
	}
	if _, ok := Sent(pair[0]); ok {
		t.Error("Sent of a unix socket: got true, want false")
	}
}

// A connection that was reset before it is accepted has no peer any more, but accept4 still returns
// the address.
func TestAcceptReturnsThePeerOfAResetConnection(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := Listen(addr)
		if err != nil {
			t.Skip(addr, err)
		}
		defer l.Close()
		gone := &pair{t: t, far: dials(t, l)}
		local, err := unix.Getsockname(gone.far)
		if err != nil {
			t.Fatal(err)
		}
		gone.farResets()
		fd, peer := -1, netip.AddrPort{}
		for end := time.Now().Add(testTimeout); fd < 0 && time.Now().Before(end); {
			if fd, peer, err = AcceptFrom(l.FD); err != nil {
				t.Fatal(err)
			}
		}
		defer Close(fd)
		var port int
		switch sa := local.(type) {
		case *unix.SockaddrInet4:
			port = sa.Port
		case *unix.SockaddrInet6:
			port = sa.Port
		}
		if int(peer.Port()) != port || !peer.Addr().IsLoopback() {
			t.Errorf("accepted from %v, want a loopback address with port %d", peer, port)
		}
		if got, err := Peer(fd); err != unix.ENOTCONN || got.IsValid() {
			t.Errorf("got peer %v, %v; want ENOTCONN after a reset", got, err)
		}
	}
}

// The unacknowledged bytes decrease as the peer reads, long before there is room to write.
func TestUnacknowledged(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_UNIX} {
		var near, far int
		if family == unix.AF_INET {
			p := newPair(t)
			near, far = p.near, p.far
		} else {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer Close(pair[0])
			defer Close(pair[1])
			near, far = pair[0], pair[1]
		}
		if n := Unacknowledged(near); n != 0 {
			t.Errorf("before a Send: got %d bytes, want 0", n)
		}
		if n, err := Send(near, []byte("a reply")); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		for end := time.Now().Add(testTimeout); Unacknowledged(near) > 0; { // until TCP has acknowledged it
			if time.Now().After(end) {
				t.Fatal("a reply that is in the peer's receive buffer is still unacknowledged")
			}
		}
		for n := 1; n > 0; {
			var err error
			if n, err = Send(near, make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
		}
		before := Unacknowledged(near)
		buffer := make([]byte, 64<<10)
		for end := time.Now().Add(testTimeout); Unacknowledged(near) >= before; {
			if _, err := Recv(far, buffer); err != nil || time.Now().After(end) {
				t.Fatalf("%d bytes are unacknowledged although the peer reads (error: %v)", before, err)
			}
		}
		for end := time.Now().Add(testTimeout); Unacknowledged(near) > 0; {
			if _, err := Recv(far, buffer); err != nil || time.Now().After(end) {
				t.Fatalf("%d bytes are unacknowledged although the peer has read everything (error: %v)", Unacknowledged(near), err)
			}
		}
	}
	if n := Unacknowledged(1 << 20); n != 0 {
		t.Errorf("of a bad descriptor: got %d bytes, want 0", n)
	}
}
