package netpoll

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/leak"
)

// pair is a TCP connection over loopback: near is our end, far the peer's.
type pair struct {
	t         testing.TB
	near, far int
}

func newPair(t testing.TB) *pair {
	t.Helper()
	l := listens(t, "127.0.0.1:0")
	p := &pair{t: t}
	p.far = dials(t, l)
	p.near = accepts(t, l)
	return p
}

func (p *pair) farSends(s string) {
	if n, err := Send(p.far, []byte(s)); n != len(s) || err != nil {
		p.t.Errorf("send: %d of %d, %v", n, len(s), err)
	}
}

// nearReceives reads as many bytes as want has, and compares them.
func (p *pair) nearReceives(want string) {
	p.t.Helper()
	if got := receive(p.t, p.near, len(want)); string(got) != want {
		p.t.Fatalf("received %q, want %q", got, want)
	}
}

// nearFills sends until the socket has no room, and returns the bytes that were sent.
func (p *pair) nearFills() []byte {
	p.t.Helper()
	var sent []byte
	for chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096); ; {
		n, err := Send(p.near, chunk)
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 0 {
			return sent
		}
		sent = append(sent, chunk[:n]...)
		chunk = append(chunk[n:], chunk[:n]...)
	}
}

func (p *pair) farReceives(want []byte) {
	p.t.Helper()
	if got := receive(p.t, p.far, len(want)); !bytes.Equal(got, want) {
		p.t.Fatalf("the %d bytes received differ from those sent", len(got))
	}
}

func (p *pair) farResets() {
	p.t.Helper()
	linger := unix.Linger{Onoff: 1}
	if err := unix.SetsockoptLinger(p.far, unix.SOL_SOCKET, unix.SO_LINGER, &linger); err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Shutdown(p.far, unix.SHUT_RD); err != nil {
		p.t.Fatal(err)
	}
	// The test closes p.far again at its end. Until then another socket has that descriptor.
	other, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Dup3(other, p.far, unix.O_CLOEXEC); err != nil {
		p.t.Fatal(err)
	}
	Close(other)
}

// receive reads n bytes.
func receive(t testing.TB, fd, n int) []byte {
	t.Helper()
	got, p := []byte{}, make([]byte, 1<<16)
	for end := time.Now().Add(testTimeout); len(got) < n; {
		k, err := Recv(fd, p[:min(len(p), n-len(got))])
		if err != nil || time.Now().After(end) {
			t.Fatalf("received %d of %d bytes: %v", len(got), n, err)
		}
		got = append(got, p[:k]...)
	}
	return got
}

// listens returns a listener, which is closed at the end of the test.
func listens(t testing.TB, addr string) Listener {
	t.Helper()
	l, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// dials connects to a listener. The connection is closed at the end of the test.
func dials(t testing.TB, l Listener) int {
	t.Helper()
	where, err := unix.Getsockname(l.FD)
	if err != nil {
		t.Fatal(err)
	}
	return dialsTo(t, where)
}

func dialsTo(t testing.TB, where unix.Sockaddr) int {
	t.Helper()
	family := unix.AF_INET
	switch at := where.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrInet4:
		if at.Addr == [4]byte{} {
			at.Addr = [4]byte{127, 0, 0, 1}
		}
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(fd) })
	if err := unix.Connect(fd, where); err != nil {
		t.Fatalf("connect to %+v: %v", where, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return fd
}

// accepts waits for a connection and accepts it. The connection is closed at the end of the test.
func accepts(t testing.TB, l Listener) int {
	t.Helper()
	for end := time.Now().Add(testTimeout); time.Now().Before(end); {
		fd, _, err := AcceptFrom(l.FD)
		if err != nil {
			t.Fatal(err)
		}
		if fd >= 0 {
			t.Cleanup(func() { Close(fd) })
			return fd
		}
	}
	t.Fatal("got no connection, want one")
	return -1
}

func TestRecv(t *testing.T) {
	p := newPair(t)
	buffer := make([]byte, 16)
	if n, err := Recv(p.near, buffer); n != 0 || err != nil {
		t.Errorf("before input: got %d, %v; want 0 and no error", n, err)
	}
	p.farSends("hello")
	p.nearReceives("hello")
	if err := ShutdownWrite(p.far); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := untilSomething(p.near, Recv); n != 0 || err != io.EOF {
			t.Errorf("after the last byte: got %d, %v; want 0, EOF", n, err)
		}
	}
	if n, err := Recv(-1, buffer); n != 0 || err != unix.EBADF {
		t.Errorf("of a bad descriptor: got %d, %v; want 0, EBADF", n, err)
	}
}

func TestRecvAfterReset(t *testing.T) {
	p := newPair(t)
	p.farResets()
	if n, err := untilSomething(p.near, Recv); n != 0 || err != unix.ECONNRESET {
		t.Errorf("got %d, %v; want 0, ECONNRESET", n, err)
	}
}

// untilSomething reads until there is a byte or an error.
func untilSomething(fd int, read func(int, []byte) (int, error)) (n int, err error) {
	for end := time.Now().Add(testTimeout); n == 0 && err == nil && time.Now().Before(end); {
		n, err = read(fd, make([]byte, 16))
	}
	return n, err
}

func TestPeekLeavesInputUnread(t *testing.T) {
	p := newPair(t)
	buffer := make([]byte, 16)
	if n, err := Peek(p.near, buffer); n != 0 || err != nil {
		t.Errorf("before input: got %d, %v; want 0 and no error", n, err)
	}
	p.farSends("hello")
	for range 2 {
		if n, err := untilSomething(p.near, Peek); n != 5 || err != nil {
			t.Errorf("got %d, %v; want 5 and no error", n, err)
		}
	}
	p.nearReceives("hello")
	if err := ShutdownWrite(p.far); err != nil {
		t.Fatal(err)
	}
	if n, err := untilSomething(p.near, Peek); n != 0 || err != io.EOF {
		t.Errorf("after the last byte: got %d, %v; want 0, EOF", n, err)
	}
}

func TestSendReturnsZeroWithoutRoom(t *testing.T) {
	p := newPair(t)
	sent := p.nearFills()
	if n, err := Send(p.near, []byte("x")); n != 0 || err != nil {
		t.Errorf("without room: got %d, %v; want 0 and no error", n, err)
	}
	p.farReceives(sent)
}

func TestSendAfterAResetReturnsEPIPE(t *testing.T) {
	p := newPair(t)
	p.farResets()
	_, _ = untilSomething(p.near, Recv)
	if n, err := Send(p.near, []byte("x")); n != 0 || err != unix.EPIPE { // and no SIGPIPE
		t.Errorf("Send: got %d, %v; want 0, EPIPE", n, err)
	}
	if err := ShutdownWrite(p.near); err != unix.ENOTCONN {
		t.Errorf("ShutdownWrite: got %v, want ENOTCONN", err)
	}
}

// Bytes sent before ShutdownWrite arrive before the end of the input, and the other direction stays
// open.
func TestShutdownWriteEndsOneDirection(t *testing.T) {
	p := newPair(t)
	if _, err := Send(p.near, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := ShutdownWrite(p.near); err != nil {
		t.Fatal(err)
	}
	p.farReceives([]byte("bye"))
	if n, err := untilSomething(p.far, Recv); n != 0 || err != io.EOF {
		t.Errorf("after the last byte: got %d, %v; want 0, EOF", n, err)
	}
	p.farSends("see you")
	p.nearReceives("see you")
}

func TestWritableIsTrueForABadDescriptor(t *testing.T) {
	// poll(2) reports an event for a bad descriptor, so the worker tries to write and gets the
	// error.
	if !Writable(1 << 20) {
		t.Skip("the kernel reports no event")
	}
}

func TestAcceptedSocketsAreNonBlockingAndCloseOnExec(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	dials(t, l)
	fd := accepts(t, l)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("got flags %#x, %v; want O_NONBLOCK", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("got flags %#x, %v; want FD_CLOEXEC", flags, err)
	}
}

func TestAcceptContinuesAfterAResetConnection(t *testing.T) {
	l := listens(t, "127.0.0.1:0")
	gone := &pair{t: t, far: dials(t, l)}
	gone.farResets()
	far := dials(t, l)
	for {
		fd := accepts(t, l)
		if n, err := Send(far, []byte("x")); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		// Linux also accepts a connection that was reset in the backlog. Recv returns its error.
		if n, err := untilSomething(fd, Recv); n > 0 && err == nil {
			return
		}
	}
}

func TestAcceptWithoutDescriptors(t *testing.T) {
	if !leak.Alone(t, 64) {
		return
	}
	l := listens(t, "127.0.0.1:0")
	dials(t, l)
	var fillers []int
	for {
		fd, err := unix.Dup(l.FD)
		if err != nil {
			break
		}
		fillers = append(fillers, fd)
	}
	for range 3 {
		if fd, err := untilAccepted(l); fd != -1 || err != ErrExhausted {
			t.Fatalf("without a free descriptor: got %d, %v; want -1, ErrExhausted", fd, err)
		}
	}
	Close(fillers[0])
	fd, err := untilAccepted(l)
	if err != nil {
		t.Fatalf("with a free descriptor: got %v, want the connection from the backlog", err)
	}
	Close(fd)
	for _, fd := range fillers[1:] {
		Close(fd)
	}
}

func untilAccepted(l Listener) (fd int, err error) {
	fd = -1
	for end := time.Now().Add(testTimeout); fd < 0 && err == nil && time.Now().Before(end); {
		fd, _, err = AcceptFrom(l.FD)
	}
	return fd, err
}

func TestAcceptFromAConnectedSocketFails(t *testing.T) {
	p := newPair(t)
	if fd, _, err := AcceptFrom(p.near); fd != -1 || err != unix.EINVAL {
		t.Errorf("got %d, %v; want -1, EINVAL", fd, err)
	}
}

func TestPrepare(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_UNIX} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := Prepare(fd); err != nil {
			t.Errorf("family %d: %v", family, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("family %d: got flags %#x, %v; want O_NONBLOCK", family, flags, err)
		}
		if family == unix.AF_INET {
			wantsOption(t, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY")
		}
		Close(fd)
	}
	if err := Prepare(-1); err == nil {
		t.Error("Prepare of a bad descriptor: got no error, want one")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Prepare(int(f.Fd())); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("Prepare of a file: got %v, want ENOTSOCK", err)
	}
}

func wantsOption(t *testing.T, fd, level, option int, name string) {
	t.Helper()
	if on, err := unix.GetsockoptInt(fd, level, option); on == 0 || err != nil {
		t.Errorf("%s: got %d, %v; want it on", name, on, err)
	}
}
