package netpoll

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGroup means that ListenConfig.Listen could not change the group of a unix socket.
var ErrGroup = errors.New("cannot set the group of the socket")

// listenUnix opens a unix socket at a path, or at "@name" in the abstract namespace.
func (c ListenConfig) listenUnix(path string) (Listener, error) {
	at := &net.UnixAddr{Name: path, Net: "unix"}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Listener{}, &net.OpError{Op: "listen", Net: "unix", Addr: at, Err: os.NewSyscallError("socket", err)}
	}
	l := Listener{FD: fd, Addr: at}
	if err := c.serveUnix(&l, path); err != nil {
		l.Close()
		return Listener{}, &net.OpError{Op: "listen", Net: "unix", Addr: at, Err: err}
	}
	return l, nil
}

// serveUnix binds l and calls listen(2). The file gets its mode and group before listen(2). The
// kernel refuses connections until then, so none is accepted with other permissions.
func (c ListenConfig) serveUnix(l *Listener, path string) error {
	if !strings.HasPrefix(path, "@") {
		defer lockDirectory(path)()
		if err := c.createSocket(l, path); err != nil {
			return err
		}
	} else if err := bind(l.FD, path); err != nil {
		return err
	}
	// The kernel limits the backlog to net.core.somaxconn.
	return os.NewSyscallError("listen", unix.Listen(l.FD, math.MaxInt32))
}

// createSocket binds l to a path, which creates the file, and records the file in l. It replaces
// a stale socket.
func (c ListenConfig) createSocket(l *Listener, path string) error {
	if c.SetMode {
		// The umask sets the mode of the file. chmod(2) after bind(2) would follow a symbolic link
		// that another process may have put in the place of the file. The umask affects the whole
		// process, so Listen must be called at the start, when nothing else creates files.
		defer unix.Umask(unix.Umask(int(^c.Mode & fs.ModePerm)))
	}
	err := bind(l.FD, path)
	if errors.Is(err, unix.EADDRINUSE) {
		if stale := removeStale(path); stale != nil {
			return fmt.Errorf("%w: %w", err, stale)
		}
		err = bind(l.FD, path)
	}
	if err != nil {
		return err
	}
	mode := fs.FileMode(0)
	if l.file, mode, err = socketAt(path); err != nil {
		return err
	}
	if c.SetMode && mode != c.Mode {
		return fmt.Errorf("the mode of the socket is %#o, want %#o: the directory has a default ACL", mode, c.Mode)
	}
	if c.SetGroup {
		if err := unix.Lchown(path, -1, c.Group); err != nil {
			return fmt.Errorf("%w to %d: %w", ErrGroup, c.Group, err)
		}
	}
	return nil
}

// bind binds a socket to a path or an abstract name. It uses package syscall, since package unix
// does not accept the longest abstract name.
func bind(fd int, path string) error {
	return os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
}

// removeStale removes the socket file of a process that has not removed it, because it was killed:
// a socket that refuses connections. The error tells why the file must stay.
//
// A socket between bind(2) and listen(2) refuses connections too. serveUnix holds the lock of the
// directory during that time.
func removeStale(path string) error {
	stale, _, err := socketAt(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the other server has removed it
	}
	if err != nil {
		return err
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return errors.New("a socket is already listening on it")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	if !stale.isAt(path) {
		return errors.New("another process has just replaced it")
	}
	return os.Remove(path)
}

// A fileID identifies a file, as long as the file exists or a socket bound to it is open.
type fileID struct{ dev, ino uint64 }

// socketAt returns the identity and the permissions of the socket at path. It follows no symbolic
// link.
func socketAt(path string) (fileID, fs.FileMode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileID{}, 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fileID{}, 0, errors.New("the file there is not a socket")
	}
	return fileID{uint64(st.Dev), st.Ino}, fs.FileMode(st.Mode) & fs.ModePerm, nil
}

// isAt reports whether path names this file.
func (id fileID) isAt(path string) bool {
	found, _, err := socketAt(path)
	return err == nil && found == id
}

// remove removes the file if path still names it.
func (id fileID) remove(path string) {
	defer lockDirectory(path)()
	if id.isAt(path) {
		os.Remove(path)
	}
}

// lockTimeout limits the wait of lockDirectory. Servers hold the lock for a few system calls only.
const lockTimeout = time.Second

// lockDirectory locks the directory of a socket, so that other servers do not change the file while
// this one checks and then replaces or removes it. It locks the directory itself and needs no lock
// file.
//
// The lock is best effort. The caller continues without it after lockTimeout, if it has no
// permission to read the directory, or if the file system does not support flock(2).
func lockDirectory(path string) (unlock func()) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockTimeout); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			return func() { Close(fd) } // which also releases the lock
		}
	}
}
