package e2e

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// webUser is the user of nginx's workers on Debian.
const webUser = "www-data"

// sharedDir returns a new directory that every user can search.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsecho-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func webUserID(t *testing.T) (uid, gid int) {
	t.Helper()
	if os.Getuid() != 0 {
		skipped = append(skipped, t.Name()+": only root can run nginx as "+webUser)
		t.SkipNow()
	}
	u, err := user.Lookup(webUser)
	if err != nil {
		unavailable(t, "%v", err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// On Debian, nginx's workers run as www-data and need write permission on the unix socket. The mode
// that the usual umask leaves denies it; -unix-mode with -unix-group, or a systemd socket unit,
// grants it.
func TestNginxReachesAUnixSocket(t *testing.T) {
	installed(t, "nginx")
	_, gid := webUserID(t)
	byUnit := func(path string) *exec.Cmd { // SocketMode=0660, SocketGroup=www-data
		f, _ := socketUnit(t, "unix", path)
		if err := errors.Join(os.Chmod(path, 0o660), os.Chown(path, 0, gid)); err != nil {
			t.Fatal(err)
		}
		// -unix-mode applies only to sockets of -listen, not to inherited ones.
		return activated("wsecho.socket", []*os.File{f}, "-unix-mode", "0600")
	}
	byFlags := func(flags ...string) func(path string) *exec.Cmd {
		return func(path string) *exec.Cmd {
			args := append([]string{"-c", `umask 022; exec "$0" "$@"`, wsecho, "-listen", "unix:" + path, "-admin", "127.0.0.1:0", "-log", "json"}, flags...)
			return exec.Command("sh", args...)
		}
	}
	for _, c := range []struct {
		name  string
		cmd   func(path string) *exec.Cmd
		mode  os.FileMode
		works bool
	}{
		{"with the mode of the umask", byFlags(), 0o755, false},
		{"with a mode for others", byFlags("-unix-mode", "0666"), 0o666, true},
		{"with a mode for the server's group", byFlags("-unix-mode", "0660"), 0o660, false},
		{"with a mode for nginx's group", byFlags("-unix-mode", "0660", "-unix-group", webUser), 0o660, true},
		{"by a socket unit", byUnit, 0o660, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(sharedDir(t), "socket")
			s := startCmd(t, c.cmd(path))
			if s.addr != path {
				t.Errorf("got listener %s, want %s", s.addr, path)
			}
			wantMode(t, path, c.mode)
			at := newSite(t)
			at.nodes = [3]string{"unix:" + path, "unix:" + path, "unix:" + path}
			dir := t.TempDir()
			b := &balancer{t: t}
			b.cmd = exec.Command(installed(t, "nginx"), "-p", dir, "-c", at.nginxConf(t, dir), "-g", "daemon off; user "+webUser+";")
			b.run(syscall.SIGTERM)
			eventually(t, "nginx listens", func() bool {
				c, err := net.Dial("tcp", at.front)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			if !c.works {
				response, err := http.Get("http://" + at.front + "/")
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if response.StatusCode != http.StatusBadGateway {
					t.Errorf("got %s from nginx, want 502", response.Status)
				}
				return
			}
			w, err := open(at.front, text("through nginx"))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.expect(text("through nginx")); err != nil {
				t.Fatal(err)
			}
			wantMode(t, path, c.mode)
		})
	}
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("got socket mode %v, want %v", info.Mode().Perm(), mode)
	}
}

// A user may give a socket only to one of its own groups. The error names the flag, the group and
// the cause, and the socket is removed.
func TestUnixGroupIsNotPermitted(t *testing.T) {
	uid, gid := webUserID(t)
	dir := sharedDir(t)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	binary, err := os.ReadFile(wsecho)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "wsecho"), binary, 0o755) // www-data can read it
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "wsecho"), "-listen", "unix:"+path, "-admin", "none", "-unix-group", "root")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	for _, want := range []string{"-unix-group root", "-listen unix:" + path, "operation not permitted"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in the output, got %s", want, out)
		}
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket was not removed: %v", err)
	}
}

// A server that stops does not remove the socket of a successor at the same path. A successor
// replaces the socket of a server that was killed.
func TestUnixSocketOfASuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	echoes := func() {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	first := start(t, "-listen", "unix:"+path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := start(t, "-listen", "unix:"+path)
	first.stop()
	echoes()
	second.signal(syscall.SIGKILL)
	second.exitCode()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("a killed server should leave its socket: %v", err)
	}
	third := start(t, "-listen", "unix:"+path)
	echoes()
	third.stop()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket was not removed: %v", err)
	}
}
