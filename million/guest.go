package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Paths in the virtual machine, and names of variables that pass settings to it.
const (
	guestServer = "/wsecho"
	guestLoad   = "/wsload"
	guestSysctl = "/sysctl.conf"

	// The kernel passes arguments of the form name=value that it does not know to the first process
	// as environment variables.
	guestConnections = "MILLION_CONNECTIONS"
	guestRate        = "MILLION_RATE"

	guestIsUp = "million: the machine is up"
)

// guest runs the measurement as the first process of the virtual machine, and then switches the
// machine off. It does not return.
func guest() {
	fmt.Println(guestIsUp)
	if err := guestRun(os.Stdout); err != nil {
		fmt.Println("million:", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("million: power off:", err)
	}
	select {} // the kernel panics if its first process exits
}

func guestRun(out io.Writer) error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	conf, err := os.ReadFile(guestSysctl)
	if err != nil {
		return err
	}
	if err := applySysctl(string(conf), "/proc/sys", out); err != nil {
		return err
	}
	s, _ := newSettings()
	for name, p := range map[string]*int{guestConnections: &s.connections, guestRate: &s.rate} {
		if *p, err = strconv.Atoi(os.Getenv(name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.server, s.load = guestServer, guestLoad
	files := uint64(s.connections) + uint64(serverNeeds.Descriptors())
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE %d: %w", files, err)
	}
	r, err := s.measure(out, nil)
	if err == nil {
		_ = r.write(out)
		err = r.writeLine(out)
	}
	return err
}

// loopbackUp does the same as "ip link set lo up". The kernel then assigns 127.0.0.1/8 to lo.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifreq.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq)
}

// applySysctl applies a file of settings like sysctl(8): "key = value", or "-key = value" if a
// failure is to be ignored, see sysctl.d(5). Keys are written with dots; patterns and slashes are
// not supported.
func applySysctl(conf, root string, out io.Writer) error {
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key, optional := strings.CutPrefix(strings.TrimSpace(key), "-")
		if !found || key == "" || strings.ContainsAny(key, "/* \t") || strings.Contains(key, "..") {
			return fmt.Errorf("sysctl: %q is not key = value", line)
		}
		value = strings.TrimSpace(value)
		err := writeExisting(filepath.Join(root, strings.ReplaceAll(key, ".", "/")), value)
		switch {
		case err == nil:
			fmt.Fprintf(out, "%s = %s\n", key, value)
		case !optional:
			return fmt.Errorf("sysctl %s = %s: %w", key, value, err)
		}
	}
	return nil
}

// writeExisting writes value to an existing file.
func writeExisting(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
