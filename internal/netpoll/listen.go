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

// A Listener is a listening socket, non-blocking.
type Listener struct {
	FD   int
	Addr net.Addr

	dualStack bool   // the wildcard address of IPv6, which takes IPv4 too
	file      fileID // that Listen has made, and Close removes; zero: none, or not ours
}

// ListenConfig holds what an Address does not say. Its zero value leaves unix sockets to the umask.
type ListenConfig struct {
	SetMode  bool // gives unix sockets Mode
	Mode     fs.FileMode
	SetGroup bool // gives unix sockets Group
	Group    int

	lookUp lookup // nil: the resolver of package net
}

// Listen opens the listening socket of an address that has only one, with the zero ListenConfig.
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

// Listen opens the listening sockets of an address: one, or one for each address of a name.
// Connections accepted from them send small messages at once (TCP_NODELAY) and
// notice that their peer has disappeared (SO_KEEPALIVE).
//
// A name may have addresses that this machine does not have, as localhost has ::1 where IPv6 is
// disabled. Listen leaves them out and returns their errors in unavailable, as long as one
// address is left. Any other error closes what was opened.
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
	// The kernel chooses port 0 for the first address only. Another address may have it taken.
	const tries = 32
	for range tries {
		all, unavailable, err = listenAll(ips, a.port)
		if a.port != 0 || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return all, unavailable, err
}

// listenAll opens a socket for each address, all of them on one port.
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

// listenTCP opens a listening socket of one family, or of both for the zero Addr: IPv6 with
// IPV6_V6ONLY off, or IPv4 where the machine has no IPv6.
//
// Package net opens it, since it knows zones, families and the length of the kernel's queue. The
// descriptor is then taken away from it, because Go's own poller watches a socket that package
// net accepts from.
func listenTCP(ip netip.Addr, port uint16) (Listener, error) {
	network, host := "tcp", ""
	switch {
	case ip.Is4():
		network, host = "tcp4", ip.String()
	case ip.Is6():
		network, host = "tcp6", ip.String() // IPV6_V6ONLY on
	}
	config := net.ListenConfig{Control: setOptions}
	config.SetMultipathTCP(false) // it costs every message, and no flag asks for it
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

// isDualStack reports whether a socket takes IPv4 and IPv6 at every address of the machine.
func isDualStack(fd int, at net.Addr) bool {
	tcp, isTCP := at.(*net.TCPAddr)
	if !isTCP || tcp.IP.To4() != nil || !tcp.IP.IsUnspecified() {
		return false
	}
	v6only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && v6only == 0
}

// String returns the address as ParseAddress takes it, but the path alone of a unix socket:
// ":8080" is IPv6 and IPv4, "[::]:8080" is IPv6 only, "0.0.0.0:8080" is IPv4 only.
func (l Listener) String() string {
	if l.dualStack {
		return fmt.Sprint(":", l.Addr.(*net.TCPAddr).Port)
	}
	return l.Addr.String()
}

// IsLoopback reports whether only this machine can reach the listener.
func (l Listener) IsLoopback() bool {
	tcp, isTCP := l.Addr.(*net.TCPAddr)
	return !isTCP || tcp.IP.IsLoopback()
}

// Excludes reports whether an address cannot be listened on because of l. It takes the address
// from the error of Listen: where the socket could not be bound.
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
	// An IP of length 0 is that of ":port": IPv6 and IPv4.
	families := func(at *net.TCPAddr, both bool) (v4, v6 bool) {
		is4 := at.IP.To4() != nil
		return is4 || both, !is4 || both
	}
	mine4, mine6 := families(mine, l.dualStack)
	theirs4, theirs6 := families(theirs, failed.Net == "tcp")
	isAll := func(at *net.TCPAddr) bool { return len(at.IP) == 0 || at.IP.IsUnspecified() }
	return (mine4 && theirs4 || mine6 && theirs6) && (isAll(mine) || isAll(theirs) || mine.IP.Equal(theirs.IP))
}

// Net returns a listener of package net, and closes l.
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

// setOptions sets what accepted sockets inherit from the listening one, which
// saves a system call for each of them.
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
	return Listener{FD: fd, Addr: addr, dualStack: isDualStack(fd, addr)}, nil
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

// Close closes the socket. It removes the file of a unix socket that Listen has made, but no
// other that has taken its place. A socket that is inherited goes on listening.
func (l Listener) Close() {
	// The kernel may give the number of the file to another once the socket is closed.
	if l.file != (fileID{}) {
		l.file.remove(l.Addr.String())
	}
	Close(l.FD)
}
