package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/leak"
	"wsecho/internal/testpeer"
)

// The tests in this file need a separate process: they test signals and kinds of stderr.

// asProgram is the environment variable that makes this test binary run the program.
const asProgram = "TEST_IS_THE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	leak.Hangups()
	os.Exit(m.Run())
}

// process is a server in its own process, which listens on a unix socket.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	exited chan struct{}
}

// launch prepares a server. A shell first runs setup, and then executes the server.
func launch(t *testing.T, stderr *os.File, setup string, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsecho") // the name of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &process{t: t, socket: filepath.Join(dir, "socket"), exited: make(chan struct{})}
	args = append([]string{"-c", setup + ` exec "$0" "$@"`, os.Args[0], "-listen", "unix:" + p.socket, "-log", "json"}, args...)
	p.cmd = exec.Command("sh", args...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=10", "WSECHO_ADMIN=none")
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	return p
}

func (p *process) starts() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
}

// ignores reports whether the kernel discards a signal for the process.
func (p *process) ignores(sig syscall.Signal) bool {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nSigIgn:")
	mask, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return ignored&(1<<(sig-1)) != 0
}

// dial waits until the server listens.
func (p *process) dial() *testpeer.Peer {
	p.t.Helper()
	var c net.Conn
	eventually(p.t, "the server listens", func() (listens bool) {
		select {
		case <-p.exited:
			p.t.Fatalf("the server has ended: %v", p.cmd.ProcessState)
		default:
		}
		var err error
		c, err = net.Dial("unix", p.socket)
		return err == nil
	})
	return testpeer.New(p.t, c).Upgrades()
}

func (p *process) signals(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) wantsExit(status int) {
	p.t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState; got.ExitCode() != status {
			p.t.Errorf("got %v, want exit status %d", got, status)
		}
	case <-time.After(soon):
		p.t.Fatal("timed out waiting for the server to end")
	}
}

// pipe returns a blocking pipe with the smallest capacity.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	w.Fd() // makes it blocking
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// fill writes to w until it is full. It opens w again, so that w itself stays blocking.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	fillUp(t, fd, func(b []byte) error { _, err := unix.Write(fd, b); return err })
}

func fillUp(t *testing.T, fd int, write func([]byte) error) {
	t.Helper()
	const full = 100 // ms without room: a terminal makes room some time after a write
	for chunk := bytes.Repeat([]byte{'\n'}, 4096); ; {
		err := write(chunk)
		switch {
		case err == nil:
		case !errors.Is(err, unix.EAGAIN):
			t.Fatal(err)
		case len(chunk) > 1:
			chunk = chunk[:len(chunk)/2]
		default:
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(poll, full); n == 0 && err == nil {
				return
			}
		}
	}
}

// socketPair returns a stream socket like that of journald, and its other end.
func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// terminal returns a pseudo-terminal and its master.
func terminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	tty = os.NewFile(uintptr(fd), "tty")
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

func setNonblock(t *testing.T, f *os.File, on bool) {
	t.Helper()
	if err := unix.SetNonblock(int(f.Fd()), on); err != nil {
		t.Fatal(err)
	}
}

// Whatever the state of stderr, the server echoes, refuses a connection beyond -max-conns, and
// drains with 1001 and exit status 0.
func TestServerWorksWithBrokenStderr(t *testing.T) {
	for _, c := range []struct {
		name   string
		stderr func(t *testing.T) (f *os.File, setup string)
		later  func(t *testing.T, f *os.File) // called when the server accepts connections
	}{
		{name: "pipe without reader", stderr: func(t *testing.T) (*os.File, string) {
			r, w := pipe(t)
			r.Close()
			return w, ""
		}},
		{name: "pipe without reader, SIGPIPE ignored", stderr: func(t *testing.T) (*os.File, string) {
			r, w := pipe(t)
			r.Close()
			return w, "trap '' PIPE;"
		}},
		{name: "full pipe", stderr: func(t *testing.T) (*os.File, string) {
			_, w := pipe(t)
			fill(t, w)
			return w, ""
		}},
		{name: "full non-blocking pipe", stderr: func(t *testing.T) (*os.File, string) {
			_, w := pipe(t)
			fill(t, w)
			setNonblock(t, w, true)
			return w, ""
		}},
		{name: "pipe that becomes full and non-blocking", stderr: func(t *testing.T) (*os.File, string) {
			_, w := pipe(t)
			return w, ""
		}, later: func(t *testing.T, w *os.File) {
			setNonblock(t, w, true)
			fill(t, w)
		}},
		{name: "journald has closed the socket", stderr: func(t *testing.T) (*os.File, string) {
			ours, theirs := socketPair(t)
			theirs.Close()
			return ours, ""
		}},
		{name: "journald does not read", stderr: func(t *testing.T) (*os.File, string) {
			ours, _ := socketPair(t)
			fillUp(t, int(ours.Fd()), func(b []byte) error { return unix.Sendto(int(ours.Fd()), b, unix.MSG_DONTWAIT, nil) })
			return ours, ""
		}},
		{name: "full disk", stderr: func(t *testing.T) (*os.File, string) {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f, ""
		}},
		{name: "file at its size limit", stderr: func(t *testing.T) (*os.File, string) {
			f, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			if err := f.Truncate(512); err != nil {
				t.Fatal(err)
			}
			return f, "ulimit -f 1;"
		}},
		{name: "closed", stderr: func(*testing.T) (*os.File, string) { return nil, "exec 2>&-;" }},
		{name: "read-only", stderr: func(*testing.T) (*os.File, string) { return nil, "exec 2</dev/null;" }},
		{name: "full terminal", stderr: func(t *testing.T) (*os.File, string) {
			_, tty := terminal(t)
			fill(t, tty)
			return tty, ""
		}},
		{name: "closed terminal", stderr: func(t *testing.T) (*os.File, string) {
			master, tty := terminal(t)
			master.Close()
			return tty, ""
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stderr, setup := c.stderr(t)
			server := launch(t, stderr, setup, "-max-conns", "2", "-log-connections")
			server.starts()
			first := server.dial()
			if c.later != nil {
				c.later(t, stderr)
			}
			second := server.dial()
			server.wantsRefusal() // logs a warning of the pool, not a line of a connection
			first.Sends(maskedHello)
			first.Wants(hello, "an echo")
			server.signals(syscall.SIGTERM)
			for _, p := range []*testpeer.Peer{first, second} {
				p.Wants(goingAway, "the connection is closed with 1001")
				p.Sends(maskedClose)
				p.WantsEnd()
			}
			server.wantsExit(exitDrained)
		})
	}
}

// wantsRefusal opens one connection too many, and wants a 503.
func (p *process) wantsRefusal() {
	p.t.Helper()
	c, err := net.Dial("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
	if response, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || response.StatusCode != http.StatusServiceUnavailable {
		p.t.Fatalf("beyond -max-conns: response %v, err %v; want 503", response, err)
	}
}

// While stderr blocks, a drain still fails /readyz and closes the listener, and a second signal
// still ends it.
func TestDrainWhileStderrBlocks(t *testing.T) {
	r, w := pipe(t)
	process := launch(t, w, "", "-log-connections", "-admin", "127.0.0.1:0", "-drain-timeout", "1h")
	process.starts()
	var serving struct{ Msg, Admin string }
	lines := bufio.NewScanner(r)
	for serving.Msg != "serving" && lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &serving); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, w)
	operators := &server{t: t, admin: serving.Admin}
	p := process.dial()
	operators.wantsStatus("/readyz", http.StatusOK)
	process.signals(syscall.SIGTERM)
	p.Wants(goingAway, "the drain has begun")
	operators.wantsStatus("/readyz", http.StatusServiceUnavailable)
	eventually(t, "no connection is accepted", func() bool {
		c, err := net.Dial("unix", process.socket)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	began := time.Now()
	process.signals(syscall.SIGTERM)
	process.wantsExit(exitFailed)
	t.Logf("a second signal ended the server within %v", time.Since(began))
}

// SIGHUP drains, unless the server was started with SIGHUP ignored.
func TestSIGHUPDrains(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	process := launch(t, log, "")
	process.starts()
	p := process.dial()
	process.signals(syscall.SIGHUP)
	p.Wants(goingAway, "the connection is closed with 1001")
	p.Sends(maskedClose)
	p.WantsEnd()
	process.wantsExit(exitDrained)
	if text, err := os.ReadFile(log.Name()); err != nil || !bytes.Contains(text, []byte(`"msg":"stopped"`)) {
		t.Errorf("the log is %s, err %v; want the line \"stopped\"", text, err)
	}
}

func TestSIGHUPIsIgnoredUnderNohup(t *testing.T) {
	process := launch(t, nil, "trap '' HUP;")
	process.starts()
	p := process.dial()
	// A signal that is not ignored may be handled at any later time, so an echo proves little.
	if !process.ignores(syscall.SIGHUP) {
		t.Error("the server does not ignore SIGHUP")
	}
	process.signals(syscall.SIGHUP)
	p.Sends(maskedHello)
	p.Wants(hello, "an echo")
	process.signals(syscall.SIGTERM)
	p.Wants(goingAway, "SIGTERM still drains")
	p.Sends(maskedClose)
	p.WantsEnd()
	process.wantsExit(exitDrained)
}

// If stdout does not take the output of a program that only prints, the program exits with status 1
// and an error on stderr.
func TestBrokenStdoutIsAFailure(t *testing.T) {
	devFull, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer devFull.Close()
	r, broken := pipe(t)
	r.Close()
	for _, arg := range []string{"-h", "-version", "-check"} {
		for want, stdout := range map[string]*os.File{"no space left on device": devFull, "broken pipe": broken} {
			process := launch(t, nil, "", arg)
			var stderr strings.Builder
			process.cmd.Stdout, process.cmd.Stderr = stdout, &stderr
			process.cmd.Run()
			if status := process.cmd.ProcessState; status.ExitCode() != exitFailed || !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: %v, stderr %q; want exit status 1 and %q", arg, status, stderr.String(), want)
			}
		}
	}
}

// A usage error ends the program with exit status 2, even if stderr takes no output.
func TestUsageErrorWithBrokenStderr(t *testing.T) {
	_, full := pipe(t)
	fill(t, full)
	r, broken := pipe(t)
	r.Close()
	for _, stderr := range []*os.File{full, broken} {
		process := launch(t, stderr, "", "-workers", "none")
		if err := process.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(soon, func() { process.cmd.Process.Kill() })
		process.cmd.Wait()
		kill.Stop()
		if status := process.cmd.ProcessState; status.ExitCode() != exitUsage {
			t.Errorf("got %v, want exit status 2", status)
		}
	}
}

// A terminal with tostop set does not stop a server that runs in the background and writes to it.
func TestBackgroundServerIgnoresTostop(t *testing.T) {
	_, tty := terminal(t)
	process := launch(t, tty, "", "-log-connections")
	// The shell is the session leader. With set -m, its background job has its own process group.
	process.cmd.Args[2] = `stty tostop <&2; set -m; "$0" "$@" & wait $!`
	process.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	process.starts()
	p := process.dial()
	server := serverOf(t, p) // the shell's child, which outlives the shell
	t.Cleanup(func() { _ = syscall.Kill(server, syscall.SIGKILL) })
	for range 100 { // by the last echo, the first lines have long been written
		p.Sends(maskedHello)
		p.Wants(hello, "an echo")
	}
}

// serverOf returns the process ID at the other end of a unix socket.
func serverOf(t *testing.T, p *testpeer.Peer) int {
	t.Helper()
	raw, err := p.Conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var credentials *unix.Ucred
	if failed := raw.Control(func(fd uintptr) {
		credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return int(credentials.Pid)
}
