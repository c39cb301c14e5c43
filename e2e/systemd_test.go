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

// What systemd does with the server, without systemd: sockets are handed over as it does (sd_listen_fds(3)), and
// the notify socket is a real one (sd_notify(3)). deploy/systemd/test has the real systemd.

// activated is the server as systemd starts it: with sockets from descriptor 3 on, and variables that say so.
func activated(names string, sockets []*os.File, flags ...string) *exec.Cmd {
	// The shell becomes the server, and so its process number is the server's.
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, wsecho}, onAnyPort(flags)...)...)
	cmd.ExtraFiles = sockets
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+names, "WSECHO_ADMIN=127.0.0.1:0")
	return cmd
}

// socketUnit listens as wsecho.socket does, and returns what it hands over, and its address.
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
	for range 2 { // the second serves what the first one leaves
		s := startBy(t, activated("front:back", []*os.File{tcp, unix}))
		serving := s.logged("serving")
		if got, want := serving["listen"], []any{addr.String(), path}; !reflect.DeepEqual(got, want) {
			t.Errorf("listens at %v, want %v and nothing of -listen", got, want)
		}
		if got, want := serving["sockets"], []any{"front", "back"}; !reflect.DeepEqual(got, want) {
			t.Errorf("the log names the sockets %v, want %v", got, want)
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

// A socket that nobody can accept connections from is said so, by its place and name, and nothing is served.
func TestSocketActivationWithAWrongSocket(t *testing.T) {
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
		t.Errorf("%v, want exit status 1", err)
	}
	for _, want := range []string{"socket 2 of LISTEN_FDS", "wrong", "neither a TCP nor a unix stream socket"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

// Sockets that are another process's, as in the environment of a child that has nothing to do with it, are none of ours.
func TestSocketActivationOfSomebodyElse(t *testing.T) {
	cmd := exec.Command(wsecho, onAnyPort(nil)...)
	cmd.Env = append(os.Environ(), "LISTEN_PID=1", "LISTEN_FDS=1")
	s := startBy(t, cmd)
	if sockets := s.logged("serving")["sockets"]; sockets != "own" {
		t.Errorf("the sockets are %v, want its own", sockets)
	}
	s.upgrade(t).closes()
}

// The server is restarted again and again while clients come, stay and go. Who stays is told 1001, and comes again at
// once; nobody is refused, or sent away without an echo.
func TestRestartBehindTheSocketRefusesNobody(t *testing.T) {
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
		return comeAndGo(w)
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
		s := startBy(t, activated("wsecho.socket", []*os.File{socket}))
		since := opened.Load()
		eventually(t, "clients have come, gone and stayed", func() bool {
			return t.Failed() || opened.Load() > since+10*clients && staying.Load() == clients/2
		})
		stop.Store(n == restarts-1)
		s.stop()
	}
	// For those that wait in the backlog: they have not looked at stop yet.
	startBy(t, activated("wsecho.socket", []*os.File{socket}))
	load.Wait()
	t.Logf("%d connections over %d restarts, none refused", opened.Load(), restarts)
}

// comeAndGo ends a connection as a client does that has what it wants.
func comeAndGo(w *wire) error {
	if err := w.send(closing(1000, "")); err != nil {
		return err
	}
	got, err := w.read()
	if err == nil && !got.closes(1000) && !got.closes(1001) {
		err = fmt.Errorf("got %v, want a close", got)
	}
	return err
}

// One thread that does not go on is one worker whose connections hang, and that is enough for the watchdog to hear
// nothing more, although everything else goes on, timers among it. The thread goes on, and so do the answers.
func TestWatchdogHearsNothingOfAHangingWorker(t *testing.T) {
	const watchdog = 400 * time.Millisecond
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	socket, _ := socketUnit(t, "tcp", "127.0.0.1:0")
	cmd := activated("wsecho.socket", []*os.File{socket}, "-workers", "2")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	s := startBy(t, cmd)
	hears := func(want string) (heard []string) {
		t.Helper()
		buf := make([]byte, 4096)
		for end := time.Now().Add(patience); ; {
			notify.SetReadDeadline(end)
			n, err := notify.Read(buf)
			if err != nil {
				t.Fatalf("the watchdog does not hear %s, but %q", want, heard)
			}
			heard = append(heard, string(buf[:n]))
			if strings.Contains(string(buf[:n]), want) {
				return heard
			}
		}
	}
	hears("WATCHDOG=1")

	runtime.LockOSThread() // which a tracer is
	defer runtime.UnlockOSThread()
	var thread int
	eventually(t, "a worker sleeps", func() bool { thread = s.sleepingWorker(socket); return thread != 0 })
	if err := syscall.PtraceAttach(thread); err != nil {
		unavailable(t, "cannot stop a thread: %v", err)
	}
	if _, err := syscall.Wait4(thread, nil, syscall.WALL, nil); err != nil {
		t.Fatal(err)
	}
	const hangs = "does not answer"
	hears(hangs)
	for began := time.Now(); time.Since(began) < 2*watchdog; {
		if heard := hears(hangs); len(heard) != 1 {
			t.Errorf("the watchdog hears %q while a worker hangs", heard)
		}
	}
	if err := syscall.PtraceDetach(thread); err != nil {
		t.Fatal(err)
	}
	hears("WATCHDOG=1")
}

// sleepingWorker is a thread that waits in epoll for what comes to the socket, among other things; 0 if there is none.
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
			continue // it runs
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

// logged is the record of the server's log that has the message.
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
	s.t.Fatalf("the log has no %q", msg)
	return nil
}
