package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// These tests take the part of systemd: they pass sockets as sd_listen_fds(3) describes and receive
// notifications on a real socket (sd_notify(3)). deploy/systemd/test runs the real systemd.

// activated returns a command that starts the server as systemd does: with sockets from descriptor
// 3 on and the variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.
func activated(names string, sockets []*os.File, flags ...string) *exec.Cmd {
	// The shell replaces itself with the server, so $$ is the server's process ID.
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, wsecho}, onAnyPort(flags)...)...)
	cmd.ExtraFiles = sockets
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+names, "WSECHO_ADMIN=127.0.0.1:0")
	return cmd
}

// socketUnit listens as wsecho.socket does. It returns the socket to pass on, and its address.
func socketUnit(t *testing.T, network, at string) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if network == "tcp" {
		if err := control(f, func(fd int) error {
			return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, 1)
		}); err != nil {
			t.Fatal(err)
		}
	}
	return f, l.Addr()
}

func control(f *os.File, do func(fd int) error) (err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(c.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}

func TestSocketActivation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	tcp, addr := socketUnit(t, "tcp", "127.0.0.1:0")
	unix, _ := socketUnit(t, "unix", path)
	for range 2 { // the second server uses the sockets after the first has stopped
		s := startCmd(t, activated("front:back", []*os.File{tcp, unix}))
		serving := s.logged("serving")
		if got, want := serving["listen"], []any{addr.String(), path}; !reflect.DeepEqual(got, want) {
			t.Errorf("got listeners %v, want %v and none of -listen", got, want)
		}
		if got, want := serving["sockets"], []any{"front", "back"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got socket names %v in the log, want %v", got, want)
		}
		p := s.upgrade(t)
		p.send(text("through the inherited socket"))
		p.want(text("through the inherited socket"))
		p.closes()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		s.stop()
	}
}

// If an inherited socket is not a stream listener, the server does not start, and the error names
// the socket's position and name.
func TestSocketActivationRejectsDatagramSocket(t *testing.T) {
	tcp, _ := socketUnit(t, "tcp", "127.0.0.1:0")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	f, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := activated("good:wrong", []*os.File{tcp, f}).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	for _, want := range []string{"socket 2 of LISTEN_FDS", "wrong", "neither a TCP nor a unix stream socket"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in the output, got %s", want, out)
		}
	}
}

// LISTEN_FDS applies only to the process in LISTEN_PID. Another process that inherits the
// environment ignores it.
func TestSocketActivationIgnoresOtherPID(t *testing.T) {
	cmd := exec.Command(wsecho, onAnyPort(nil)...)
	cmd.Env = append(os.Environ(), "LISTEN_PID=1", "LISTEN_FDS=1")
	s := startCmd(t, cmd)
	if sockets := s.logged("serving")["sockets"]; sockets != "own" {
		t.Errorf("got sockets %v in the log, want own", sockets)
	}
	s.upgrade(t).closes()
}

// The server is restarted several times while clients connect, stay connected and leave.
// Established connections are closed with 1001 and reconnect at once; no connection is refused or
// ends without an echo.
func TestRestartRefusesNoConnection(t *testing.T) {
	const restarts, clients = 5, 16
	socket, addr := socketUnit(t, "tcp", "127.0.0.1:0")
	var opened, staying atomic.Int64
	var stop atomic.Bool
	visit := func(message frame, stays bool) error {
		w, err := open(addr.String(), message)
		if err != nil {
			return err
		}
		defer w.Close()
		opened.Add(1)
		if err := w.expect(message); err != nil {
			return err
		}
		if stays && !stop.Load() {
			staying.Add(1)
			defer staying.Add(-1)
			return echoUntilClosed(w, message)
		}
		return closeEither(w)
	}
	var load sync.WaitGroup
	defer load.Wait()
	for i := range clients {
		load.Go(func() {
			for !stop.Load() {
				if err := visit(text(fmt.Sprint("client ", i)), i%2 == 0); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	for n := range restarts {
		s := startCmd(t, activated("wsecho.socket", []*os.File{socket}))
		since := opened.Load()
		eventually(t, "clients have connected, left and stayed connected", func() bool {
			return t.Failed() || opened.Load() > since+10*clients && staying.Load() == clients/2
		})
		stop.Store(n == restarts-1)
		s.stop()
	}
	// Connections that wait in the backlog still need a server, because their clients have not read
	// stop.
	startCmd(t, activated("wsecho.socket", []*os.File{socket}))
	load.Wait()
	t.Logf("%d connections over %d restarts, none refused", opened.Load(), restarts)
}

// closeEither runs the closing handshake with 1000. The server's close may cross it with 1001.
func closeEither(w *wire) error {
	if err := w.send(closeFrame(1000, "")); err != nil {
		return err
	}
	got, err := w.read()
	if err == nil && !got.closes(1000) && !got.closes(1001) {
		err = fmt.Errorf("got %v, want a close frame with 1000 or 1001", got)
	}
	return err
}

// If the thread of one worker hangs, the server sends no more watchdog notifications, although all
// other threads and timers run. It sends them again once the thread continues.
func TestWatchdogStopsWhileAWorkerHangs(t *testing.T) {
	const watchdog = 400 * time.Millisecond
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	socket, _ := socketUnit(t, "tcp", "127.0.0.1:0")
	cmd := activated("wsecho.socket", []*os.File{socket}, "-workers", "2")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	s := startCmd(t, cmd)
	wantNotification := func(want string) (got []string) {
		t.Helper()
		buf := make([]byte, 4096)
		for end := time.Now().Add(waitTimeout); ; {
			notify.SetReadDeadline(end)
			n, err := notify.Read(buf)
			if err != nil {
				t.Fatalf("got notifications %[2]q, want %[1]s", want, got)
			}
			got = append(got, string(buf[:n]))
			if strings.Contains(string(buf[:n]), want) {
				return got
			}
		}
	}
	wantNotification("WATCHDOG=1")

	runtime.LockOSThread() // ptrace(2): the tracer is a thread
	defer runtime.UnlockOSThread()
	var thread int
	eventually(t, "a worker waits in epoll_wait", func() bool { thread = s.sleepingWorker(socket); return thread != 0 })
	if err := syscall.PtraceAttach(thread); err != nil {
		unavailable(t, "cannot stop a thread: %v", err)
	}
	if _, err := syscall.Wait4(thread, nil, syscall.WALL, nil); err != nil {
		t.Fatal(err)
	}
	const hangs = "does not answer"
	wantNotification(hangs)
	for began := time.Now(); time.Since(began) < 2*watchdog; {
		if got := wantNotification(hangs); len(got) != 1 {
			t.Errorf("got notifications %q while a worker hangs, want only the status", got)
		}
	}
	if err := syscall.PtraceDetach(thread); err != nil {
		t.Fatal(err)
	}
	wantNotification("WATCHDOG=1")
}

// sleepingWorker returns the ID of a thread that waits in epoll_wait(2) on a poller that watches
// the socket, or 0 if there is none.
func (s *server) sleepingWorker(socket *os.File) int {
	s.t.Helper()
	info, err := socket.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	process := filepath.Join("/proc", strconv.Itoa(s.pid()))
	watched := fmt.Sprintf(" ino:%x ", info.Sys().(*syscall.Stat_t).Ino)
	threads, _ := filepath.Glob(process + "/task/*")
	for _, thread := range threads {
		call, _ := os.ReadFile(thread + "/syscall")
		fields := strings.Fields(string(call))
		if len(fields) < 2 {
			continue // it is running
		}
		fd, err := strconv.ParseUint(fields[1], 0, 32)
		if err != nil {
			continue
		}
		if epoll, _ := os.ReadFile(fmt.Sprintf("%s/fdinfo/%d", process, fd)); strings.Contains(string(epoll), watched) {
			n, _ := strconv.Atoi(filepath.Base(thread))
			return n
		}
	}
	return 0
}

// logged returns the record of the server's log with the given message.
func (s *server) logged(msg string) map[string]any {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == msg {
			return record
		}
	}
	s.t.Fatalf("no record %q in the log", msg)
	return nil
}
