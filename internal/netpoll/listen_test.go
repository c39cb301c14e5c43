package netpoll

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hasIPv6 skips a test where the host has no IPv6.
func hasIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	l.Close()
}

// converses shows that a listener can be reached at where, and that small
// messages of what it accepts are sent at once and a vanished peer is noticed.
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

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr.String() != path {
		t.Errorf("address is %v", l.Addr)
	}
	converses(t, l, &unix.SockaddrUnix{Name: path})
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still in the file system: %v", err)
	}
}

func TestListenUnixWhereAKilledProcessDid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	killed, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	Close(killed.FD)
	l := listens(t, "unix:"+path)
	converses(t, l, &unix.SockaddrUnix{Name: path})
}

func TestListenUnixWhereSomebodyDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	theirs := listens(t, "unix:"+path)
	if _, err := Listen("unix:" + path); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("listening where somebody listens: %v", err)
	}
	Close(accepts(t, theirs)) // of whoever looked whether they are alive
	converses(t, theirs, &unix.SockaddrUnix{Name: path})
}

// Connecting to what is no socket is refused just as to a socket that nobody
// listens at.
func TestListenUnixLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen("unix:" + path); !errors.Is(err, unix.EADDRINUSE) {
		if err == nil {
			l.Close()
		}
		t.Errorf("listening where a file is: %v", err)
	}
	if content, err := os.ReadFile(path); string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}
}

func TestListenSaysWhatFailed(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	for addr, want := range map[string]error{
		l.Addr.String():            unix.EADDRINUSE,
		"192.0.2.1:0":              unix.EADDRNOTAVAIL,
		"unix:/nonexistent/socket": unix.ENOENT,
	} {
		if _, err := Listen(addr); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addr, err, want)
		}
	}
	if _, err := Listen("no port"); err == nil {
		t.Error("listening without a port")
	}
}

// opens makes a socket as another process would have, which this one is started with.
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

// An inherited listener is as good as one of our own; and when we close it, it
// is still whoever's who opened it, and the next one can inherit it.
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
					t.Errorf("accepted %d, %v although nobody has come", fd, err)
				}
				if want := map[string]string{"IPv4": "127.0.0.1", "unix": path}[name]; !strings.HasPrefix(l.Addr.String(), want) {
					t.Errorf("address is %v, want %s", l.Addr, want)
				}
				converses(t, l, where)
				l.Close()
			}
		})
	}
}

func TestInheritSaysWhatIsWrong(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for want, f := range map[string]*os.File{
		"not a socket":                           file,
		"neither a TCP nor a unix stream socket": opens(t, unix.AF_INET, unix.SOCK_DGRAM, nil),
		"does not listen":                        opens(t, unix.AF_INET, unix.SOCK_STREAM, nil),
	} {
		if l, err := Inherit(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want an error with %q", l, err, want)
		}
	}
}
