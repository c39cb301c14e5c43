package netpoll

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// listens returns a listener with the permissions of c, which is closed at the end of the test.
func (c ListenConfig) listens(t *testing.T, addr string) Listener {
	t.Helper()
	a, err := ParseAddress(addr)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := c.Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(all[0].Close)
	return all[0]
}

// opensUnix returns a listener on a unix socket, which the test must close.
func opensUnix(t *testing.T, path string) Listener {
	t.Helper()
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantsNoFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: got %v, want no file", path, err)
	}
}

// Close removes the socket file that Listen created, but not that of a server that has replaced it.
func TestCloseLeavesTheSuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	first := opensUnix(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := opensUnix(t, path)
	first.Close()
	converses(t, second, &unix.SockaddrUnix{Name: path})
	second.Close()
	wantsNoFile(t, path)
}

func TestCloseLeavesOtherFiles(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link to another file": func(path string) error {
			return errors.Join(os.WriteFile(path+".target", nil, 0o600), os.Symlink(path+".target", path))
		},
		"datagram socket": func(path string) error {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "path")
			l := opensUnix(t, path)
			if err := errors.Join(os.Remove(path), replace(path)); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("after Close: got %v, want the same file", err)
			}
		})
	}
}

// Close removes neither a symbolic link to its socket nor the socket under another name.
func TestCloseLeavesALinkToItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l := opensUnix(t, path)
	if err := errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, kept := range []string{path, path + ".moved"} {
		if _, err := os.Lstat(kept); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l := opensUnix(t, path)
	l.file.remove(path)
	l.Close() // the file does not exist any more
	wantsNoFile(t, path)
}

// An abstract socket has no file. Listen and Close do not affect a file with the same name.
func TestAbstractSocket(t *testing.T) {
	t.Chdir(t.TempDir())
	short := fmt.Sprintf("@wsecho-test-%d", os.Getpid())
	for _, name := range []string{short, short + strings.Repeat("x", 1+maxPath-len(short))} {
		if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := opensUnix(t, name)
		c, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		Close(accepts(t, l))
		if _, err := Listen("unix:" + name); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("listening twice: got %v, want EADDRINUSE", err)
		}
		if l.String() != name {
			t.Errorf("String: got %s, want %s", l, name)
		}
		l.Close()
		if c, err := net.Dial("unix", name); err == nil {
			c.Close()
			t.Error("connecting after Close: got a connection, want an error")
		}
		if content, err := os.ReadFile(name); string(content) != "precious" {
			t.Errorf("the file contains %q, %v; want %q", content, err, "precious")
		}
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	l := opensUnix(t, "socket")
	converses(t, l, &unix.SockaddrUnix{Name: "socket"})
	l.Close()
	wantsNoFile(t, "socket")
}

// Listen does not remove what occupies the path, unless it is a stale socket. The error names it.
func TestListenErrorNamesWhatOccupiesThePath(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	stale := opensUnix(t, at("stale"))
	Close(stale.FD)
	live := listens(t, "unix:"+at("live"))
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at("datagrams"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.Mkdir(at("directory"), 0o700),
		os.Symlink("stale", at("link")), os.Symlink("nowhere", at("dangling"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"file": "not a socket", "directory": "not a socket", "link": "not a socket", "dangling": "not a socket",
		"live": "a socket is already listening", "datagrams": "wrong type",
	} {
		before, err := os.Lstat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Listen("unix:" + at(name))
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s: got %v, want EADDRINUSE with the path and %q", name, err, want)
		}
		if after, err := os.Lstat(at(name)); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: got %v, want the same file as before", name, err)
		}
	}
	Close(accepts(t, live))
}

// If many servers start at once at the path of a killed one, exactly one listens, and clients reach
// it.
func TestOnlyOneServerReplacesAStaleSocket(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "socket")
		Close(opensUnix(t, path).FD)
		var (
			mu        sync.Mutex
			listening []Listener
			servers   sync.WaitGroup
		)
		for range 8 {
			servers.Go(func() {
				l, err := Listen("unix:" + path)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					listening = append(listening, l)
				} else if !errors.Is(err, unix.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		servers.Wait()
		if len(listening) != 1 || !listening[0].file.isAt(path) {
			t.Fatalf("got %d listening servers, want one that owns the path", len(listening))
		}
		// First come the connections by which the other servers checked the socket.
		for fd := 0; fd >= 0; {
			var err error
			if fd, _, err = AcceptFrom(listening[0].FD); err != nil {
				t.Fatal(err)
			} else if fd >= 0 {
				Close(fd)
			}
		}
		converses(t, listening[0], &unix.SockaddrUnix{Name: path})
		listening[0].Close()
		wantsNoFile(t, path)
	}
}

// If another process keeps the directory locked, Listen waits for lockTimeout, then continues.
func TestLockedDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	unlock := lockDirectory(path)
	l := opensUnix(t, path)
	unlock()
	l.Close()
	wantsNoFile(t, path)
}

// permissions returns the mode and the group of a file.
func permissions(t *testing.T, path string) (fs.FileMode, int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fs.FileMode(st.Mode) & fs.ModePerm, int(st.Gid)
}

func TestUnixMode(t *testing.T) {
	defer unix.Umask(unix.Umask(0o027))
	for _, c := range []struct {
		config ListenConfig
		want   fs.FileMode
	}{
		{ListenConfig{}, 0o750},
		{ListenConfig{SetMode: true, Mode: 0o660}, 0o660},
		{ListenConfig{SetMode: true, Mode: 0o777}, 0o777},
		{ListenConfig{SetMode: true, Mode: 0}, 0},
	} {
		path := filepath.Join(t.TempDir(), "socket")
		l := c.config.listens(t, "unix:"+path)
		if mode, _ := permissions(t, path); mode != c.want {
			t.Errorf("got mode %#o, want %#o", mode, c.want)
		}
		if umask := unix.Umask(0o027); umask != 0o027 {
			t.Errorf("after Listen: got umask %#o, want 027", umask)
		}
		l.Close()
	}
}

// The file gets its permissions before a client can connect.
func TestPermissionsComeBeforeConnections(t *testing.T) {
	const group = 12345
	if os.Getuid() != 0 {
		t.Skip("only root can give a file to any group")
	}
	path := filepath.Join(t.TempDir(), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{FD: fd, Addr: &net.UnixAddr{Name: path, Net: "unix"}}
	defer l.Close()
	c := ListenConfig{SetMode: true, Mode: 0o660, SetGroup: true, Group: group}
	if err := c.createSocket(&l, path); err != nil {
		t.Fatal(err)
	}
	if mode, gid := permissions(t, path); mode != 0o660 || gid != group {
		t.Errorf("before listen(2): got mode %#o, group %d; want %#o, %d", mode, gid, 0o660, group)
	}
	if _, err := net.Dial("unix", path); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting before listen(2): got %v, want ECONNREFUSED", err)
	}
}

// If Listen cannot set the group, it removes the socket.
func TestGroupFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	a, err := ParseAddress("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer withoutCapability(t, unix.CAP_CHOWN)()
	_, _, err = ListenConfig{SetGroup: true, Group: 12345}.Listen(a)
	if !errors.Is(err, ErrGroup) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "12345") {
		t.Errorf("got %v, want ErrGroup with EPERM and the group", err)
	}
	wantsNoFile(t, path)
}

// withoutCapability removes a capability from this thread, if the thread has it, and locks the
// goroutine to the thread until restore is called.
func withoutCapability(t *testing.T, capability int) (restore func()) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		t.Fatal(err)
	}
	after := before
	after[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&header, &after[0]); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Capset(&header, &before[0]); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	}
}

// Inherit and Close do not change the file of an inherited socket.
func TestInheritedSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	f := opens(t, unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: path})
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	l, err := Inherit(f)
	if err != nil {
		t.Fatal(err)
	}
	converses(t, l, &unix.SockaddrUnix{Name: path})
	l.Close()
	if mode, _ := permissions(t, path); mode != 0o640 {
		t.Errorf("got mode %#o, want %#o", mode, 0o640)
	}
}
