package netpoll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Listener is a non-blocking listening socket.
type Listener struct {
	FD   int
	Addr net.Addr

	dualStack bool   // the wildcard address of IPv6, which accepts IPv4 too
	file      fileID // the file that Listen created and Close removes; zero: none, or not ours
}

// ListenConfig holds the permissions of unix sockets. With the zero value, the umask determines
// them.
type ListenConfig struct {
	SetMode  bool // gives unix sockets Mode
	Mode     fs.FileMode
	SetGroup bool // gives unix sockets Group
	Group    int

	lookUp lookup // nil: the resolver of package net
}

// Listen opens the listening socket of an address, with the zero ListenConfig. It returns an error
// if the address needs several sockets.
func Listen(text string) (Listener, error) {
	a, err := ParseAddress(text)
	if err != nil {
		return Listener{}, err
	}
	all, _, err := ListenConfig{}.Listen(a)
	if err != nil {
		return Listener{}, err
	}
	if len(all) > 1 {
		closeAll(all)
		return Listener{}, fmt.Errorf("listen %s: %d addresses, want one", text, len(all))
	}
	return all[0], nil
}

// Listen opens the listening sockets of an address: one, or one for each address of a host name.
// Connections accepted from them send small messages without delay (TCP_NODELAY) and detect that
// their peer is unreachable (SO_KEEPALIVE).
//
// A host name may resolve to addresses that this machine does not have: localhost resolves to ::1
// even if IPv6 is disabled. Listen leaves these out and returns their errors in unavailable. If no
// address is available, or after any other error, it closes all sockets and returns err.
func (c ListenConfig) Listen(a Address) (all []Listener, unavailable []error, err error) {
	if !a.IsTCP() {
		l, err := c.listenUnix(a.path)
		if err != nil {
			return nil, nil, err
		}
		return []Listener{l}, nil, nil
	}
	lookUp := c.lookUp
	if lookUp == nil {
		lookUp = net.DefaultResolver.LookupNetIP
	}
	ips, err := a.resolve(lookUp)
	if err != nil {
		return nil, nil, fmt.Errorf("listen %s: %w", a, err)
	}
	// If the port is 0, the kernel chooses one for the first address. For the next addresses that
	// port may be in use.
	const tries = 32
	for range tries {
		all, unavailable, err = listenAll(ips, a.port)
		if a.port != 0 || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return all, unavailable, err
}

// listenAll opens a socket for each address, all on the same port.
func listenAll(ips []netip.Addr, port uint16) (all []Listener, unavailable []error, err error) {
	for _, ip := range ips {
		l, err := listenTCP(ip, port)
		switch {
		case err == nil:
			all, port = append(all, l), uint16(l.Addr.(*net.TCPAddr).Port)
		case isUnavailable(err):
			unavailable = append(unavailable, err)
		default:
			closeAll(all)
			return nil, nil, err
		}
	}
	if len(all) == 0 {
		return nil, nil, errors.Join(unavailable...)
	}
	return all, unavailable, nil
}

// listenTCP opens a listening socket of one address family. For the zero Addr it opens one of both:
// IPv6 with IPV6_V6ONLY off, or IPv4 if the machine has no IPv6.
//
// Package net opens the socket, since it handles zones, address families and the length of the
// backlog. listenTCP returns a duplicate of the descriptor and closes the net.Listener, so that
// Go's own poller does not watch the socket.
func listenTCP(ip netip.Addr, port uint16) (Listener, error) {
	network, host := "tcp", ""
	switch {
	case ip.Is4():
		network, host = "tcp4", ip.String()
	case ip.Is6():
		network, host = "tcp6", ip.String() // IPV6_V6ONLY on
	}
	config := net.ListenConfig{Control: setOptions}
	config.SetMultipathTCP(false) // MPTCP makes every message slower
	l, err := config.Listen(context.Background(), network, net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return Listener{}, err
	}
	defer l.Close()
	fd, err := duplicate(l.(syscall.Conn))
	if err != nil {
		return Listener{}, fmt.Errorf("listen %s: %w", l.Addr(), err)
	}
	return Listener{FD: fd, Addr: l.Addr(), dualStack: isDualStack(fd, l.Addr())}, nil
}

// isDualStack reports whether a socket accepts IPv4 and IPv6 at every address of the machine.
func isDualStack(fd int, at net.Addr) bool {
	tcp, isTCP := at.(*net.TCPAddr)
	if !isTCP || tcp.IP.To4() != nil || !tcp.IP.IsUnspecified() {
		return false
	}
	v6only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && v6only == 0
}

// String returns the address in the syntax of ParseAddress: ":8080" is IPv6 and IPv4, "[::]:8080"
// is IPv6 only, "0.0.0.0:8080" is IPv4 only. For a unix socket it returns the path without "unix:".
func (l Listener) String() string {
	if l.dualStack {
		return fmt.Sprint(":", l.Addr.(*net.TCPAddr).Port)
	}
	return l.Addr.String()
}

// IsLoopback reports whether only clients on this machine can reach the listener.
func (l Listener) IsLoopback() bool {
	tcp, isTCP := l.Addr.(*net.TCPAddr)
	return !isTCP || tcp.IP.IsLoopback()
}

// Excludes reports whether err, an error of Listen, was caused by l: whether Listen could not bind
// its socket because l occupies the address. It takes the address from err.
func (l Listener) Excludes(err error) bool {
	failed, isNet := errors.AsType[*net.OpError](err)
	if !isNet || !errors.Is(err, unix.EADDRINUSE) {
		return false
	}
	mine, isTCP := l.Addr.(*net.TCPAddr)
	theirs, areTCP := failed.Addr.(*net.TCPAddr)
	if !isTCP || !areTCP {
		return !isTCP && !areTCP && l.file != (fileID{}) && l.file.isAt(failed.Addr.String())
	}
	if mine.Port != theirs.Port {
		return false
	}
	// An IP of length 0 stands for ":port", which is IPv6 and IPv4.
	families := func(at *net.TCPAddr, both bool) (v4, v6 bool) {
		is4 := at.IP.To4() != nil
		return is4 || both, !is4 || both
	}
	mine4, mine6 := families(mine, l.dualStack)
	theirs4, theirs6 := families(theirs, failed.Net == "tcp")
	isAll := func(at *net.TCPAddr) bool { return len(at.IP) == 0 || at.IP.IsUnspecified() }
	return (mine4 && theirs4 || mine6 && theirs6) && (isAll(mine) || isAll(theirs) || mine.IP.Equal(theirs.IP))
}

// Net converts l to a listener of package net. It closes l.FD, also if it returns an error.
func (l Listener) Net() (net.Listener, error) {
	f := os.NewFile(uintptr(l.FD), l.String())
	defer f.Close()
	return net.FileListener(f)
}

func closeAll(listeners []Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// setOptions sets socket options on a listening socket. Accepted sockets inherit them, which saves
// system calls per connection.
func setOptions(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) { err = setTCPOptions(int(fd)) })
	return errors.Join(controlErr, err)
}

func setTCPOptions(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
	)
}

// duplicate returns a new descriptor for the socket of c, which stays open when c is closed.
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

// Inherit returns a listener for a listening socket that this process inherited, as from systemd:
// TCP or a unix stream socket. The listener has its own descriptor, and the caller must close f.
//
// The process that passed the socket may keep a descriptor of the same open file description.
// Inherit makes the socket non-blocking for that process, too. Close removes no file, and the
// socket itself stays open as long as another process has it.
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
	return Listener{FD: fd, Addr: addr, dualStack: isDualStack(fd, addr)}, nil
}

// adoptListening checks that fd is a listening socket of a supported kind, sets the options that
// Listen sets, and returns its address. f is the same socket.
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
		return nil, errors.New("the socket is not listening")
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

// Close closes the socket. It removes the file of a unix socket that Listen created, unless another
// file has replaced it. An inherited socket goes on listening as long as another process has it.
func (l Listener) Close() {
	// Once the socket is closed, the kernel may give its inode number to another file.
	if l.file != (fileID{}) {
		l.file.remove(l.Addr.String())
	}
	Close(l.FD)
}
