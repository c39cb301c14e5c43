// Command million opens as many connections to wsecho as a machine allows, up to a million, echoes
// messages on all of them, and reports their memory use and latency:
//
//	make million      on this machine
//	make million-vm   in a virtual machine that allows a million connections
//
// It runs bin/wsecho and bin/wsload, and measures the memory of both processes and of the kernel.
// In the virtual machine, it runs as the first process (PID 1), and there is no other software. See
// docs/million.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"wsecho/internal/flags"
)

type settings struct {
	connections int
	rate        int
	handshakes  int
	server      string
	load        string
	page        string
	vm          bool
	fromLog     bool
	machine     machine
}

func newSettings() (*settings, *flag.FlagSet) {
	s := &settings{}
	fs := flags.NewSet("million")
	flags.Var(fs, &s.connections, "connections", 1_000_000, flags.Int(1, 4<<20), "`number` of connections; fewer are opened if the machine does not allow as many")
	flags.Var(fs, &s.rate, "rate", 2000, flags.Int(1, 1_000_000),
		"total `messages` per second; every connection echoes one message before the measurement, and one during it")
	flags.Var(fs, &s.handshakes, "handshakes", 8192, flags.Int(1, 1<<20), "maximum `number` of concurrent handshakes; limited to half of the listen queue")
	flags.Var(fs, &s.server, "server", "bin/wsecho", flags.Text, "`path` of the server's binary")
	flags.Var(fs, &s.load, "load", "bin/wsload", flags.Text, "`path` of the load generator's binary")
	flags.Var(fs, &s.page, "page", "", flags.Text, "Markdown `file` to write the result to, between its markers")
	fs.BoolVar(&s.vm, "vm", false, "run in a virtual machine")
	flags.Var(fs, &s.machine.kernel, "kernel", "", flags.Text, "with -vm: `file` of the kernel")
	flags.Var(fs, &s.machine.sysctl, "sysctl", "deploy/sysctl.d/60-wsecho-1m.conf", flags.Text, "with -vm: `file` of the sysctl settings")
	flags.Var(fs, &s.machine.memory, "memory", 20<<30, flags.Size(256<<20, 1<<40), "with -vm: memory of the machine, in `bytes`")
	flags.Var(fs, &s.machine.cpus, "cpus", 2, flags.Int(1, 256), "with -vm: `number` of CPUs")
	flags.Var(fs, &s.machine.accelerator, "accelerator", "auto", flags.Word("auto", "kvm", "tcg"),
		"with -vm: QEMU accelerator, `auto|kvm|tcg`: kvm, tcg (software emulation), or auto, which is kvm if a kernel starts with it, or else tcg")
	flags.Var(fs, &s.machine.log, "log", "bin/vm/million.log", flags.Text, "with -vm: `file` for the console output")
	flags.Var(fs, &s.machine.arguments, "kernel-arguments", "", flags.Text, "with -vm: additional `arguments` for the kernel")
	fs.BoolVar(&s.fromLog, "from-log", false, "run nothing: read the result of an earlier run from the file -log, and write it to -page")
	return s, fs
}

func main() {
	if os.Getpid() == 1 {
		guest()
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run runs the program with the given arguments, and returns its exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, fs := newSettings()
	err := flags.Parse(fs, args, "MILLION")
	help := func(w io.Writer) {
		fmt.Fprint(w, "million opens a million connections to wsecho, or as many as the machine allows, and reports their memory use and latency.\n\nusage: million [flags]\n\n")
		flags.Explain(w, fs, "MILLION")
	}
	if status, answered := flags.Answer("million", err, false, help, stdout, stderr); answered {
		return status
	}
	r, err := s.result(stdout, signals)
	if err == nil && s.page != "" {
		err = r.putInto(s.page)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		fmt.Fprintln(stderr, "million:", err)
		return 1
	}
	return 0
}

func (s *settings) result(stdout io.Writer, signals <-chan os.Signal) (*result, error) {
	switch {
	case s.fromLog:
		return readLog(s.machine.log)
	case s.vm:
		return s.runVM(stdout, signals)
	}
	r, err := s.measure(stdout, signals)
	if err == nil {
		err = r.write(stdout)
	}
	return r, err
}
