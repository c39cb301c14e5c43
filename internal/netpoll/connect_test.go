package netpoll

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// connects starts connecting to a listener, and waits until the connection is accepted.
func connects(t *testing.T, l Listener, from netip.Addr) *pair {
	t.Helper()
	fd, err := Connect(netip.MustParseAddrPort(l.Addr.String()), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(fd) })
	p := &pair{t: t, far: fd, near: accepts(t, l)}
	if err := ConnectError(fd); err != nil {
		t.Error(err)
	}
	return p
}

func TestConnect(t *testing.T) {
	p := connects(t, listens(t, "127.0.0.1:0"), netip.Addr{})
	p.farSends("hello")
	p.nearReceives("hello")
	wantsOption(t, p.far, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY")
	if n, err := Recv(p.far, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("before input: got %d, %v; want 0 and no error", n, err)
	}
}

func TestConnectIPv6(t *testing.T) {
	hasIPv6(t)
	p := connects(t, listens(t, "[::1]:0"), netip.IPv6Loopback())
	p.farSends("hello")
	p.nearReceives("hello")
}

func TestConnectFrom(t *testing.T) {
	from := netip.MustParseAddr("127.0.0.7")
	p := connects(t, listens(t, "127.0.0.1:0"), from)
	if addr, err := Peer(p.near); addr.Addr() != from || err != nil {
		t.Errorf("peer: got %v, %v; want %v", addr, err, from)
	}
	if fd, err := Connect(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddr("203.0.113.1")); err != unix.EADDRNOTAVAIL || fd != -1 {
		t.Errorf("from an address of another machine: got %d, %v; want -1, EADDRNOTAVAIL", fd, err)
	}
}

// ConnectError and Send report that the connection was refused.
func TestConnectReportsARefusal(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	to := netip.MustParseAddrPort(l.Addr.String())
	if err := unix.Shutdown(l.FD, unix.SHUT_RD); err != nil { // the port stays bound, but does not listen
		t.Fatal(err)
	}
	for _, asks := range []func(int) error{ConnectError, func(fd int) error { _, err := Send(fd, []byte("hello")); return err }} {
		fd, err := Connect(to, netip.Addr{})
		if err == nil {
			_, err = untilSomething(fd, func(fd int, _ []byte) (int, error) { return 0, asks(fd) })
			Close(fd)
		}
		if err != unix.ECONNREFUSED {
			t.Errorf("got %v, want ECONNREFUSED", err)
		}
	}
}
