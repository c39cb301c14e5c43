package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wsecho/internal/flags"
)

// A machine is the virtual machine that is wanted.
type machine struct {
	kernel, sysctl, log string
	accelerator         string
	arguments           string
	memory              flags.ByteSize
	cpus                int
}

// bootTime is how long a kernel with KVM may take to start our program: some seconds are usual. KVM within
// another machine may be there and not work.
const bootTime = 30 * time.Second

// runVM does it in a virtual machine, and returns the result that its console shows.
func (s *settings) runVM(stdout io.Writer, signals <-chan os.Signal) (*result, error) {
	if s.machine.kernel == "" {
		return nil, errors.New("-kernel: no file is given")
	}
	root, err := s.writeRoot()
	if err != nil {
		return nil, err
	}
	defer os.Remove(root)
	err = s.boot(root, stdout, signals)
	if err != nil {
		return nil, err
	}
	return readLog(s.machine.log)
}

// writeRoot writes the machine's root file system.
func (s *settings) writeRoot() (name string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	conf, err := os.ReadFile(s.machine.sysctl)
	if err != nil {
		return "", fmt.Errorf("-sysctl: %w", err)
	}
	files := []rootFile{{"dev", isDirectory, nil}, {"dev/console", isCharDevice, nil}, {"proc", isDirectory, nil}, {"sys", isDirectory, nil},
		{guestSysctl[1:], isPlain, conf}}
	for _, p := range [][2]string{{"init", self}, {guestServer[1:], s.server}, {guestLoad[1:], s.load}} {
		f, err := programFile(p[0], p[1])
		if err != nil {
			return "", err
		}
		files = append(files, f)
	}
	w, err := os.CreateTemp(filepath.Dir(s.machine.log), "root-*.cpio")
	if err != nil {
		return "", fmt.Errorf("-log: %w", err)
	}
	err = errors.Join(writeArchive(w, files), w.Close())
	return w.Name(), err
}

// boot runs the machine until it has switched itself off: with KVM if it may be tried and works, else in
// software emulation.
func (s *settings) boot(root string, stdout io.Writer, signals <-chan os.Signal) error {
	log, err := os.Create(s.machine.log)
	if err != nil {
		return fmt.Errorf("-log: %w", err)
	}
	defer log.Close()
	how := s.machine.accelerator
	if how == "auto" {
		how = "tcg"
		if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			kvm.Close()
			err = s.qemu("kvm", root, log, stdout, signals, time.After(bootTime))
			if !errors.Is(err, errNotUp) {
				return err
			}
			fmt.Fprintln(stdout, "With KVM the machine does not start: software emulation.")
		}
	}
	return s.qemu(how, root, log, stdout, signals, nil)
}

var errNotUp = errors.New("the machine did not start")

// qemu runs QEMU. If the machine is not up until late, errNotUp is returned.
func (s *settings) qemu(how, root string, log, stdout io.Writer, signals <-chan os.Signal, late <-chan time.Time) error {
	accelerator, cpu, arguments := "kvm", "host", s.machine.arguments
	if how == "tcg" {
		accelerator, cpu = "tcg,thread=multi", "max" // a host thread for each CPU
		// The kernel distrusts an emulated counter and reads the time from a device, which is some hundred times as slow.
		arguments += " tsc=reliable clocksource=tsc"
	}
	c := &console{out: io.MultiWriter(log, stdout), up: make(chan struct{})}
	cmd := exec.Command("qemu-system-x86_64", "-accel", accelerator, "-cpu", cpu, "-smp", strconv.Itoa(s.machine.cpus),
		"-m", strconv.FormatInt(int64(s.machine.memory)>>20, 10)+"M", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", s.machine.kernel, "-initrd", root,
		"-append", fmt.Sprintf("console=ttyS0 panic=-1 quiet %s=%d %s=%d %s", guestConnections, s.connections, guestRate, s.rate, arguments))
	cmd.Stdout, cmd.Stderr = c, c
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fmt.Fprintln(stdout, strings.Join(cmd.Args, " "))
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	up := c.up
	for {
		select {
		case err := <-ended:
			if late != nil {
				return errNotUp
			}
			return err
		case <-up:
			up, late = nil, nil
		case <-late:
			cmd.Process.Kill()
			<-ended
			return errNotUp
		case sig := <-signals:
			cmd.Process.Kill()
			<-ended
			return fmt.Errorf("ended by %v", sig)
		}
	}
}

// A console passes on what the machine says, and notices when our program in it has begun to.
type console struct {
	out  io.Writer
	said []byte
	up   chan struct{} // closed then
	isUp bool
}

func (c *console) Write(p []byte) (int, error) {
	if !c.isUp {
		if c.said = append(c.said, p...); bytes.Contains(c.said, []byte(guestIsUp)) {
			c.isUp = true
			close(c.up)
		}
	}
	return c.out.Write(p)
}
