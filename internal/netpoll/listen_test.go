package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hasIPv6 skips a test if the machine has no IPv6.
func hasIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	l.Close()
}

// converses checks that a listener can be reached at where, and that accepted sockets have the
// options TCP_NODELAY and SO_KEEPALIVE.
func converses(t *testing.T, l Listener, where unix.Sockaddr) {
	t.Helper()
	p := &pair{t: t, far: dialsTo(t, where)}
	p.near = accepts(t, l)
	p.farSends("hello")
	p.nearReceives("hello")
	if _, isUnix := where.(*unix.SockaddrUnix); !isUnix {
		wantsOption(t, p.near, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY")
		wantsOption(t, p.near, unix.SOL_SOCKET, unix.SO_KEEPALIVE, "SO_KEEPALIVE")
	}
}

func TestListenIPv4(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	port := l.Addr.(*net.TCPAddr).Port
	converses(t, l, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

func TestListenIPv6(t *testing.T) {
	hasIPv6(t)
	l := listens(t, "[::1]:0")
	port := l.Addr.(*net.TCPAddr).Port
	converses(t, l, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
}

func TestListenOnAllAddresses(t *testing.T) {
	l := listens(t, ":0")
	port := l.Addr.(*net.TCPAddr).Port
	converses(t, l, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	hasIPv6(t)
	converses(t, l, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
}

// refuses checks that no socket listens on an address.
func refuses(t *testing.T, network string, addr netip.AddrPort) {
	t.Helper()
	c, err := net.Dial(network, addr.String())
	if err == nil {
		c.Close()
		t.Errorf("connecting to %s: got a connection, want ECONNREFUSED", addr)
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to %s: got %v, want ECONNREFUSED", addr, err)
	}
}

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

func portOf(l Listener) uint16 { return uint16(l.Addr.(*net.TCPAddr).Port) }

// An IP address listens on its own family only, and an address without a host on both. String shows
// which.
func TestListenFamilies(t *testing.T) {
	hasIPv6(t)
	for addr, want := range map[string]struct {
		v4, v6 bool
		is     string
	}{
		":0":                   {true, true, ":"},
		"0.0.0.0:0":            {true, false, "0.0.0.0:"},
		"[::]:0":               {false, true, "[::]:"},
		"127.0.0.1:0":          {true, false, "127.0.0.1:"},
		"[::1]:0":              {false, true, "[::1]:"},
		"[::ffff:127.0.0.1]:0": {true, false, "127.0.0.1:"},
		"[::ffff:0.0.0.0]:0":   {true, false, "0.0.0.0:"},
		"[::1%lo]:0":           {false, true, "[::1]:"},
	} {
		t.Run(addr, func(t *testing.T) {
			l := listens(t, addr)
			port := portOf(l)
			if got := l.String(); got != want.is+strconv.Itoa(int(port)) {
				t.Errorf("String: got %s, want %s%d", got, want.is, port)
			}
			if at4 := netip.AddrPortFrom(loopback4, port); want.v4 {
				converses(t, l, &unix.SockaddrInet4{Port: int(port), Addr: loopback4.As4()})
			} else {
				refuses(t, "tcp4", at4)
			}
			if at6 := netip.AddrPortFrom(loopback6, port); want.v6 {
				converses(t, l, &unix.SockaddrInet6{Port: int(port), Addr: loopback6.As16()})
			} else {
				refuses(t, "tcp6", at6)
			}
			// Listen accepts the result of String, and gives the same address.
			text := l.String()
			l.Close()
			again, err := Listen(text)
			if errors.Is(err, unix.EADDRINUSE) {
				return // another process has taken the port
			}
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if again.String() != text {
				t.Errorf("listening on %s again: got %s", text, again)
			}
		})
	}
}

// Two listeners, one of each family, can share a port.
func TestListenOnBothWildcards(t *testing.T) {
	hasIPv6(t)
	var v4, v6 Listener
	for tries := 10; v6.Addr == nil; tries-- {
		v4 = listens(t, "0.0.0.0:0")
		l, err := Listen(fmt.Sprintf("[::]:%d", portOf(v4)))
		if err == nil {
			v6 = l
			defer v6.Close()
		} else if tries == 0 || !errors.Is(err, unix.EADDRINUSE) { // another process may have the port
			t.Fatal(err)
		}
	}
	converses(t, v4, &unix.SockaddrInet4{Port: int(portOf(v4)), Addr: loopback4.As4()})
	converses(t, v6, &unix.SockaddrInet6{Port: int(portOf(v4)), Addr: loopback6.As16()})
}

// named listens on a host name with the given addresses.
func named(t *testing.T, port uint16, addrs ...string) ([]Listener, []error, error) {
	t.Helper()
	var ips []netip.Addr
	for _, a := range addrs {
		ips = append(ips, netip.MustParseAddr(a))
	}
	c := ListenConfig{lookUp: func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip" || host != "name.example" {
			t.Errorf("lookup: got %s, %s; want ip, name.example", network, host)
		}
		return ips, nil
	}}
	a, err := ParseAddress(fmt.Sprintf("name.example:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	all, unavailable, err := c.Listen(a)
	t.Cleanup(func() { closeAll(all) })
	return all, unavailable, err
}

// absent is an address for documentation (RFC 5737), which no machine has.
const absent = "198.51.100.1"

// Listen opens a socket for each address of a host name, without duplicates, all on one port.
func TestListenOnAName(t *testing.T) {
	all, unavailable, err := named(t, 0, "127.0.0.2", "127.0.0.3", "::ffff:127.0.0.2", "127.0.0.3")
	if err != nil || len(unavailable) > 0 || len(all) != 2 {
		t.Fatalf("%v, %v, %v; want two listeners", all, unavailable, err)
	}
	port := portOf(all[0])
	for i, l := range all {
		want := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 2)}), port)
		if l.String() != want.String() {
			t.Errorf("listener %d: got %s, want %s", i, l, want)
		}
		converses(t, l, &unix.SockaddrInet4{Port: int(port), Addr: want.Addr().As4()})
	}
	refuses(t, "tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.4"), port))
}

func TestListenOnANameOfBothFamilies(t *testing.T) {
	hasIPv6(t)
	all, unavailable, err := named(t, 0, "::1", "127.0.0.1")
	if err != nil || len(unavailable) > 0 || len(all) != 2 {
		t.Fatalf("%v, %v, %v; want two listeners", all, unavailable, err)
	}
	converses(t, all[0], &unix.SockaddrInet6{Port: int(portOf(all[0])), Addr: loopback6.As16()})
	converses(t, all[1], &unix.SockaddrInet4{Port: int(portOf(all[0])), Addr: loopback4.As4()})
}

// Listen leaves out an address that the machine does not have, if another one is available.
func TestListenLeavesOutUnavailableAddresses(t *testing.T) {
	all, unavailable, err := named(t, 0, absent, "127.0.0.1")
	if err != nil || len(all) != 1 || len(unavailable) != 1 || !strings.Contains(unavailable[0].Error(), absent) {
		t.Errorf("got %v, %v, %v; want 127.0.0.1, and %s in unavailable", all, unavailable, err, absent)
	}
	all, _, err = named(t, 0, absent, "198.51.100.2")
	if !errors.Is(err, unix.EADDRNOTAVAIL) || !strings.Contains(err.Error(), absent) || !strings.Contains(err.Error(), "198.51.100.2") {
		t.Errorf("got %v, %v; want an error that names both addresses", all, err)
	}
}

// If one address is in use, the error names it, and Listen closes the sockets of the others.
func TestListenFailsIfOneAddressIsInUse(t *testing.T) {
	taken := listens(t, "127.0.0.3:0")
	port := portOf(taken)
	all, _, err := named(t, port, "127.0.0.2", "127.0.0.3")
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("got %v, %v; want EADDRINUSE with %s", all, err, taken)
	}
	refuses(t, "tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port))
	// Listen tries several ports for port 0, but not for ever: these two addresses exclude each
	// other on every port.
	if all, _, err := named(t, 0, "127.0.0.1", "0.0.0.0"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("got %v, %v; want EADDRINUSE", all, err)
	}
}

func TestListenOnANameWithoutAddresses(t *testing.T) {
	if all, _, err := named(t, 0); err == nil || !strings.Contains(err.Error(), "name.example:0") {
		t.Errorf("got %v, %v; want an error with the name", all, err)
	}
	a, err := ParseAddress("name.example:80")
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no such host")
	c := ListenConfig{lookUp: func(context.Context, string, string) ([]netip.Addr, error) { return nil, failed }}
	if all, _, err := c.Listen(a); !errors.Is(err, failed) || !strings.Contains(err.Error(), "name.example:80") {
		t.Errorf("got %v, %v; want the resolver's error with the name", all, err)
	}
}

// Excludes reports which of several listeners occupies an address.
func TestExcludes(t *testing.T) {
	hasIPv6(t)
	path := filepath.Join(t.TempDir(), "socket")
	for there, all := range map[string]map[string]bool{ // by listener: the addresses that it excludes
		":":          {":": true, "0.0.0.0:": true, "[::]:": true, "127.0.0.1:": true, "[::1]:": true},
		"0.0.0.0:":   {":": true, "0.0.0.0:": true, "[::]:": false, "127.0.0.1:": true, "[::1]:": false},
		"[::]:":      {":": true, "0.0.0.0:": false, "[::]:": true, "127.0.0.1:": false, "[::1]:": true},
		"127.0.0.1:": {":": true, "0.0.0.0:": true, "[::]:": false, "127.0.0.1:": true, "127.0.0.2:": false},
		"unix:" + path: {"unix:" + path: true, "unix:" + filepath.Dir(path) + "/./socket": true,
			"unix:" + path + "2": false},
	} {
		t.Run(there, func(t *testing.T) {
			port := ""
			if !strings.HasPrefix(there, "unix:") {
				port = "0"
			}
			l := listens(t, there+port)
			if port != "" {
				port = strconv.Itoa(int(portOf(l)))
			}
			other := listens(t, "127.0.0.1:0")
			for addr, excluded := range all {
				another, err := Listen(addr + port)
				if err == nil {
					another.Close()
				}
				if excluded && err == nil || l.Excludes(err) != excluded || other.Excludes(err) {
					t.Errorf("%s%s: %v; excluded by %s: got %v, want %v", addr, port, err, l, l.Excludes(err), excluded)
				}
			}
		})
	}
}

func TestNetListener(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Net()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.Addr().String() != l.String() {
		t.Errorf("got address %s, want %s", n.Addr(), l)
	}
	far, err := net.Dial("tcp", l.String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := n.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near.Close()
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr.String() != path {
		t.Errorf("got address %v, want %s", l.Addr, path)
	}
	converses(t, l, &unix.SockaddrUnix{Name: path})
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: got %v, want no file", err)
	}
}

func TestListenReplacesTheSocketOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	killed, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	Close(killed.FD)
	l := listens(t, "unix:"+path)
	converses(t, l, &unix.SockaddrUnix{Name: path})
}

func TestListenFailsIfAnotherListenerUsesThePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	theirs := listens(t, "unix:"+path)
	if _, err := Listen("unix:" + path); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("listening on the same path: got %v, want EADDRINUSE", err)
	}
	Close(accepts(t, theirs)) // the connection by which Listen checked whether the socket is stale
	converses(t, theirs, &unix.SockaddrUnix{Name: path})
}

// connect(2) gives the same error for a file that is not a socket as for a stale socket.
func TestListenUnixLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen("unix:" + path); !errors.Is(err, unix.EADDRINUSE) {
		if err == nil {
			l.Close()
		}
		t.Errorf("listening at the path of a file: got %v, want EADDRINUSE", err)
	}
	if content, err := os.ReadFile(path); string(content) != "precious" {
		t.Errorf("the file contains %q, %v; want %q", content, err, "precious")
	}
}

func TestListenErrorsWrapTheErrno(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	for addr, want := range map[string]error{
		l.Addr.String():            unix.EADDRINUSE,
		"192.0.2.1:0":              unix.EADDRNOTAVAIL,
		"unix:/nonexistent/socket": unix.ENOENT,
	} {
		if _, err := Listen(addr); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", addr, err, want)
		}
	}
	if _, err := Listen("no port"); err == nil {
		t.Error("listening without a port: got no error, want one")
	}
}

// opens opens a socket as another process would, for this one to inherit.
func opens(t *testing.T, family, kind int, at unix.Sockaddr) *os.File {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inherited")
	t.Cleanup(func() { f.Close() })
	if at != nil {
		if err := errors.Join(unix.Bind(fd, at), unix.Listen(fd, 16)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// An inherited listener works like one of Listen. Close does not affect the original descriptor, so
// the socket can be inherited again.
func TestInherit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	for name, f := range map[string]*os.File{
		"IPv4": opens(t, unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		"unix": opens(t, unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: path}),
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				l, err := Inherit(f)
				if err != nil {
					t.Fatal(err)
				}
				where, err := unix.Getsockname(l.FD)
				if err != nil {
					t.Fatal(err)
				}
				if fd, _, err := AcceptFrom(l.FD); fd >= 0 || err != nil {
					t.Errorf("accepted %d, %v without a connection, want -1 and no error", fd, err)
				}
				if want := map[string]string{"IPv4": "127.0.0.1", "unix": path}[name]; !strings.HasPrefix(l.Addr.String(), want) {
					t.Errorf("got address %v, want %s", l.Addr, want)
				}
				converses(t, l, where)
				l.Close()
			}
		})
	}
}

func TestInheritErrorsNameTheFault(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for want, f := range map[string]*os.File{
		"not a socket":                           file,
		"neither a TCP nor a unix stream socket": opens(t, unix.AF_INET, unix.SOCK_DGRAM, nil),
		"is not listening":                       opens(t, unix.AF_INET, unix.SOCK_STREAM, nil),
	} {
		if l, err := Inherit(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want an error with %q", l, err, want)
		}
	}
}
