package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Listener is a listening socket, non-blocking.
type Listener struct {
	FD   int
	Addr net.Addr

	inherited bool // somebody else has opened it, and goes on with it when we close it
}

// Listen opens a listening socket: at "host:port", "[::1]:port", at "unix:/path",
// or at ":port", which is IPv4 and IPv6 at once (IPv4 alone where the host has no IPv6).
// What is accepted from it sends small messages at once (TCP_NODELAY) and
// notices a peer that has vanished (SO_KEEPALIVE).
//
// Opening is left to package net, which knows names, zones and families; the
// socket is then taken away from it, for one that package net accepts from is watched
// by Go's own poller.
func Listen(addr string) (Listener, error) {
	network, where := "tcp", addr
	if path, isUnix := strings.CutPrefix(addr, "unix:"); isUnix {
		network, where = "unix", path
	}
	config := net.ListenConfig{Control: setOptions}
	config.SetMultipathTCP(false) // costs every message, and nobody asked for it

	l, err := config.Listen(context.Background(), network, where)
	if errors.Is(err, unix.EADDRINUSE) && network == "unix" && removeStale(where) {
		l, err = config.Listen(context.Background(), network, where)
	}
	if err != nil {
		return Listener{}, err
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	fd, err := duplicate(l.(syscall.Conn))
	if err != nil {
		return Listener{}, fmt.Errorf("listen %s: %w", addr, err)
	}
	return Listener{FD: fd, Addr: l.Addr()}, nil
}

// setOptions sets what accepted sockets inherit from the listening one, which
// saves a system call for each of them.
func setOptions(network, _ string, c syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	controlErr := c.Control(func(fd uintptr) { err = setTCPOptions(int(fd)) })
	return errors.Join(controlErr, err)
}

func setTCPOptions(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
	)
}

// duplicate is a descriptor of our own for c's socket, so that c can be closed.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(theirs uintptr) {
		fd, err = unix.FcntlInt(theirs, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(controlErr, err)
}

// Inherit makes a listener of a listening socket that this process was started
// with: TCP or a unix stream. It takes a descriptor of its own, so that f is still to be closed.
//
// The socket is one open file description, which whoever started the process has as well:
// that it is non-blocking is theirs, too, and Close ends neither the socket nor its name in the file system.
func Inherit(f *os.File) (Listener, error) {
	fd, err := duplicate(f)
	if err != nil {
		return Listener{}, err
	}
	addr, err := adoptListening(fd, f)
	if err != nil {
		Close(fd)
		return Listener{}, err
	}
	return Listener{FD: fd, Addr: addr, inherited: true}, nil
}

// adoptListening checks that fd is what Listen would have made, does to it what Listen does,
// and says what address it listens at. f is the same socket.
func adoptListening(fd int, f *os.File) (net.Addr, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("not a socket: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	isTCP := domain == unix.AF_INET || domain == unix.AF_INET6
	if kind != unix.SOCK_STREAM || !isTCP && domain != unix.AF_UNIX {
		return nil, errors.New("neither a TCP nor a unix stream socket")
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, err
	}
	if listening == 0 {
		return nil, errors.New("a socket that does not listen")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	if isTCP {
		if err := setTCPOptions(fd); err != nil {
			return nil, err
		}
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.Addr(), nil
}

// removeStale removes a unix socket that nobody listens at any more, as a
// process that was killed leaves it behind. Anything else that lies at path refuses to be
// connected to as well, and is somebody's file.
func removeStale(path string) bool {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED) && os.Remove(path) == nil
}

// Close closes the socket, and removes it from the file system if it is there.
// One that is inherited goes on listening.
func (l Listener) Close() {
	Close(l.FD)
	if l.Addr.Network() == "unix" && !l.inherited {
		os.Remove(l.Addr.String())
	}
}
