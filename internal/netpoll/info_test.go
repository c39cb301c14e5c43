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
			t.Errorf("peer %v, %v, accepted from %v, want %v", got, err, accepted, want)
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
	if p, err := Peer(pair[0]); p.IsValid() || err != nil {
		t.Errorf("peer %v, %v", p, err)
	}
	if _, ok := Sent(pair[0]); ok {
		t.Error("bytes are counted")
	}
}

// A connection that was reset before it was accepted has no peer any more, but accept4 knows whose it was.
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
			t.Errorf("accepted from %v, want port %d", peer, port)
		}
		if got, err := Peer(fd); err != unix.ENOTCONN || got.IsValid() {
			t.Errorf("peer %v, %v; the connection is reset", got, err)
		}
	}
}

// What is unacknowledged shrinks as the peer reads, long before there is room to write.
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
			t.Errorf("%d bytes of nothing", n)
		}
		if n, err := Send(near, []byte("a reply")); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		for end := time.Now().Add(testTimeout); Unacknowledged(near) > 0; { // as long as TCP's takes to be acknowledged
			if time.Now().After(end) {
				t.Fatal("a reply that the peer has, but has not read, is unacknowledged")
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
				t.Fatalf("%d bytes are unacknowledged whatever is read (error: %v)", before, err)
			}
		}
		for end := time.Now().Add(testTimeout); Unacknowledged(near) > 0; {
			if _, err := Recv(far, buffer); err != nil || time.Now().After(end) {
				t.Fatalf("%d bytes are unacknowledged although all is read (error: %v)", Unacknowledged(near), err)
			}
		}
	}
	if n := Unacknowledged(1 << 20); n != 0 {
		t.Errorf("%d bytes of what is no descriptor", n)
	}
}
