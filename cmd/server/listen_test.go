package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wantsFailure runs the server with flags that it must fail to start with.
func wantsFailure(t *testing.T, args []string, status int, wants ...string) {
	t.Helper()
	t.Setenv("WSECHO_ADMIN", "127.0.0.1:0")
	var stderr bytes.Buffer
	signals, exit := make(chan os.Signal, 2), make(chan int, 1)
	go func() { exit <- run(args, io.Discard, &stderr, signals) }()
	select {
	case got := <-exit:
		if got != status {
			t.Errorf("exit status %d, want %d", got, status)
		}
		for _, want := range wants {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("stderr %q, want %q in it", stderr.String(), want)
			}
		}
	case <-time.After(soon):
		signals <- syscall.SIGTERM
		<-exit
		t.Errorf("the server starts, want a failure; stderr %s", stderr.String())
	}
}

// An invalid address is a usage error that names the flag, the address and the cause.
func TestInvalidAddressIsUsageError(t *testing.T) {
	tooLong := "unix:/" + strings.Repeat("x", 129)
	for _, c := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"-listen", "unix:"}, []string{"-listen", "unix:", "path is missing"}},
		{[]string{"-listen", "unix:@"}, []string{"-listen", "unix:@", "abstract name is missing"}},
		{[]string{"-listen", tooLong}, []string{"-listen", "listen " + tooLong + ": path is 130 bytes long, the limit is 107"}},
		{[]string{"-listen", ":0,unix:"}, []string{"-listen", ":0,unix:", "listen unix:: path is missing"}},
		{[]string{"-listen", "unix:@a,b"}, []string{"-listen", "listen b: missing port"}},
		{[]string{"-listen", ":http"}, []string{"-listen", ":http", "not a number from 0 to 65535"}},
		{[]string{"-listen", "127.0.0.1:65536"}, []string{"-listen", "127.0.0.1:65536", "not a number from 0 to 65535"}},
		{[]string{"-listen", ":"}, []string{"-listen", "missing port"}},
		{[]string{"-listen", ""}, []string{"-listen", "empty item"}},
		{[]string{"-listen", "256.0.0.1:80"}, []string{"-listen", "256.0.0.1:80", "neither an IP address nor a host name"}},
		{[]string{"-listen", "127.0.0.1:80,127.0.0.1:080"}, []string{"-listen", "127.0.0.1:080", "same address as 127.0.0.1:80"}},
		{[]string{"-listen", "unix:/a", "-listen", "unix:/a"}, []string{"-listen", "unix:/a", "same address as unix:/a"}},
		{[]string{"-admin", "unix:/a"}, []string{"-admin", "unix:/a", "not host:port", "TCP only"}},
		{[]string{"-admin", "127.0.0.1:http"}, []string{"-admin", "127.0.0.1:http", "not a number from 0 to 65535"}},
		{[]string{"-admin", "127.0.0.1:"}, []string{"-admin", "127.0.0.1:", "missing port"}},
		{[]string{"-unix-mode", "0888"}, []string{"-unix-mode", "0888", "octal"}},
		{[]string{"-unix-mode", "01777"}, []string{"-unix-mode", "01777", "octal"}},
		{[]string{"-unix-mode", "-1"}, []string{"-unix-mode", "-1", "octal"}},
		{[]string{"-unix-mode", "rw-rw----"}, []string{"-unix-mode", "rw-rw----", "octal"}},
		{[]string{"-unix-mode", ""}, []string{"-unix-mode", "octal"}},
		{[]string{"-unix-group", "no such group"}, []string{"-unix-group", "no such group", "neither a group"}},
		{[]string{"-unix-group", "-1"}, []string{"-unix-group", "-1", "neither a group"}},
		{[]string{"-unix-group", "4294967295"}, []string{"-unix-group", "4294967295", "neither a group"}},
		{[]string{"-listen", "unix:@wsecho", "-unix-mode", "0660"}, []string{"-listen", "unix:@wsecho", "-unix-mode", "neither mode nor group"}},
		{[]string{"-listen", ":0,unix:@wsecho", "-unix-group", "0"}, []string{"-listen", "unix:@wsecho", "-unix-group", "neither mode nor group"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) { wantsFailure(t, c.args, exitUsage, c.wants...) })
	}
}

// If the server cannot listen on an address, the error names it, and the server's other address
// that is in the way.
func TestListenErrorNamesAddressInTheWay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := func() string { // a port that is most probably free
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "file"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := free(), free()
	for _, c := range []struct {
		name  string
		args  []string
		wants []string
	}{
		{"overlapping addresses", []string{"-listen", "127.0.0.1:" + a + ",:" + a}, []string{"-listen :" + a, "address already in use", "-listen 127.0.0.1:" + a}},
		{"the same socket", []string{"-listen", "unix:" + socket + ",unix:" + dir + "/./socket"}, []string{"-listen unix:" + dir + "/./socket", "address already in use", "-listen unix:" + socket + " listens there"}},
		{"the admin endpoints", []string{"-admin", "127.0.0.1:" + b, "-listen", ":" + b}, []string{"-listen :" + b, "address already in use", "-admin 127.0.0.1:" + b}},
		{"a file", []string{"-listen", "unix:" + file}, []string{"-listen unix:" + file, "address already in use", "not a socket"}},
		{"a name whose port is taken", []string{"-listen", "localhost:" + strings.TrimPrefix(taken.Addr().String(), "127.0.0.1:")}, []string{"-listen localhost:", taken.Addr().String(), "address already in use"}},
		{"an unknown name", []string{"-listen", "wsecho.invalid:80"}, []string{"-listen wsecho.invalid:80", "lookup"}},
		{"an unknown interface", []string{"-listen", "[fe80::1%none0]:80"}, []string{"-listen [fe80::1%none0]:80", "no interface none0"}},
		{"an unknown admin name", []string{"-listen", "127.0.0.1:0", "-admin", "wsecho.invalid:80"}, []string{"-admin wsecho.invalid:80", "lookup"}},
	} {
		t.Run(c.name, func(t *testing.T) { wantsFailure(t, c.args, exitFailed, c.wants...) })
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket remains after a failed start: %v", err)
	}
	if _, err := os.Lstat(file); err != nil {
		t.Error(err)
	}
}

// needsIPv6 skips the test if the machine has no IPv6.
func needsIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	l.Close()
}

func connects(host, addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), soon)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// With -listen and -admin, a literal address means its own family only, and an address without a
// host means both, as the log shows. The log has a warning if other machines can reach the admin
// endpoints.
func TestAddressFamilies(t *testing.T) {
	needsIPv6(t)
	for addr, want := range map[string]struct {
		v4, v6, warns bool
		logged        string
	}{
		":0":          {true, true, true, ":"},
		"0.0.0.0:0":   {true, false, true, "0.0.0.0:"},
		"[::]:0":      {false, true, true, "[::]:"},
		"127.0.0.1:0": {true, false, false, "127.0.0.1:"},
		"[::1]:0":     {false, true, false, "[::1]:"},
	} {
		t.Run(addr, func(t *testing.T) {
			s := start(t, "-listen", addr, "-admin", addr)
			for flag, at := range map[string]string{"-listen": s.listens[1].(string), "-admin": s.admin} {
				if !strings.HasPrefix(at, want.logged) {
					t.Errorf("%s %s: logged as %s, want %s and a port", flag, addr, at, want.logged)
				}
				if v4, v6 := connects("127.0.0.1", at), connects("::1", at); v4 != want.v4 || v6 != want.v6 {
					t.Errorf("%s %s: IPv4 %v, IPv6 %v; want %v, %v", flag, addr, v4, v6, want.v4, want.v6)
				}
			}
			s.signals <- syscall.SIGTERM
			s.wantsExit(exitDrained)
			if warned := strings.Contains(s.before, "can be reached from other machines"); warned != want.warns {
				t.Errorf("warning %v, want %v; log %v", warned, want.warns, s.before)
			}
		})
	}
}

// A name stands for all of its addresses that this machine has.
func TestNameListensOnAllItsAddresses(t *testing.T) {
	addrs, err := net.LookupHost("localhost")
	if err != nil {
		t.Skip(err)
	}
	s := start(t, "-listen", "localhost:0", "-admin", "localhost:0")
	for _, addr := range addrs {
		if l, err := net.Listen("tcp", net.JoinHostPort(addr, "0")); err != nil {
			t.Log(err)
			continue
		} else {
			l.Close()
		}
		for flag, at := range map[string]string{"-listen": s.listens[1].(string), "-admin": strings.Split(s.admin, ",")[0]} {
			if !connects(addr, at) {
				t.Errorf("%s localhost: cannot connect to %s", flag, addr)
			}
		}
	}
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}

func TestUnixModeAndGroup(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	for _, c := range []struct {
		args []string
		mode os.FileMode
		gid  int
	}{
		{nil, 0o755, os.Getgid()},
		{[]string{"-unix-mode", "umask", "-unix-group", "none"}, 0o755, os.Getgid()},
		{[]string{"-unix-mode", "660"}, 0o660, os.Getgid()},
		{[]string{"-unix-mode", "0777", "-unix-group", fmt.Sprint(os.Getgid())}, 0o777, os.Getgid()},
		{[]string{"-unix-mode", "0660", "-unix-group", "54321"}, 0o660, 54321},
	} {
		if c.gid != os.Getgid() && os.Getuid() != 0 {
			t.Log("only root can assign any group")
			continue
		}
		path := filepath.Join(t.TempDir(), "socket")
		s := start(t, append([]string{"-listen", "unix:" + path}, c.args...)...)
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if gid := int(info.Sys().(*syscall.Stat_t).Gid); info.Mode().Perm() != c.mode || gid != c.gid {
			t.Errorf("%v: mode %v, group %d; want %v, %d", c.args, info.Mode().Perm(), gid, c.mode, c.gid)
		}
		s.signals <- syscall.SIGTERM
		s.wantsExit(exitDrained)
	}
}
