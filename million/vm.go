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

// A machine is the configuration of the virtual machine.
type machine struct {
	kernel, sysctl, log string
	accelerator         string
	arguments           string
	memory              flags.ByteSize
	cpus                int
}

// bootTime is the maximum time for a kernel with KVM to start this program, which usually takes a
// few seconds. In a virtual machine, /dev/kvm may exist and not work.
const bootTime = 30 * time.Second

// runVM runs the measurement in a virtual machine, and returns the result from its console log.
func (s *settings) runVM(stdout io.Writer, signals <-chan os.Signal) (*result, error) {
	if s.machine.kernel == "" {
		return nil, errors.New("-kernel is required with -vm")
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

// writeRoot writes the machine's root file system to a temporary file, and returns its name.
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

// boot runs the machine until it switches itself off, with the accelerator of the settings. For
// auto that is KVM if the machine starts with it, and software emulation otherwise.
func (s *settings) boot(root string, stdout io.Writer, signals <-chan os.Signal) error {
	log, err := os.Create(s.machine.log)
	if err != nil {
		return fmt.Errorf("-log: %w", err)
	}
	defer log.Close()
	accelerator := s.machine.accelerator
	if accelerator == "auto" {
		accelerator = "tcg"
		if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			kvm.Close()
			err = s.qemu("kvm", root, log, stdout, signals, time.After(bootTime))
			if !errors.Is(err, errNotUp) {
				return err
			}
			fmt.Fprintln(stdout, "The machine does not start with KVM; using software emulation.")
		}
	}
	return s.qemu(accelerator, root, log, stdout, signals, nil)
}

var errNotUp = errors.New("the machine did not start")

// qemu runs QEMU until the machine switches itself off. It returns errNotUp if the machine has not
// started this program when late fires; a nil late never fires.
func (s *settings) qemu(kind, root string, log, stdout io.Writer, signals <-chan os.Signal, late <-chan time.Time) error {
	accelerator, cpu, arguments := "kvm", "host", s.machine.arguments
	if kind == "tcg" {
		accelerator, cpu = "tcg,thread=multi", "max" // one host thread per CPU
		// By default the kernel does not trust the emulated TSC and reads the time from a device,
		// which is about 100 times slower.
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
			return fmt.Errorf("interrupted by signal: %v", sig)
		}
	}
}

// A console copies the machine's output to out, and detects the line that this program prints when
// it starts in the machine.
type console struct {
	out    io.Writer
	output []byte        // until the line is found
	up     chan struct{} // closed when the line is found
	isUp   bool
}

func (c *console) Write(p []byte) (int, error) {
	if !c.isUp {
		if c.output = append(c.output, p...); bytes.Contains(c.output, []byte(guestIsUp)) {
			c.isUp = true
			close(c.up)
		}
	}
	return c.out.Write(p)
}
