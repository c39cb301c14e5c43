// Command million opens as many connections to wsecho as a machine allows, up to a million, has each of them
// echo now and then, and says what they cost:
//
//	make million      on this machine
//	make million-vm   in a virtual machine that allows a million
//
// It runs bin/wsecho and bin/wsload, and counts the memory of both and of the kernel. As the
// first process of a virtual machine it is its whole system. docs/million.md explains it.
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
	flags.Var(fs, &s.connections, "connections", 1_000_000, flags.Int(1, 4<<20), "`number` of connections, if the machine allows so many")
	flags.Var(fs, &s.rate, "rate", 2000, flags.Int(1, 1_000_000),
		"messages `a second` of all connections together; every connection echoes once before measuring, and once while it is measured")
	flags.Var(fs, &s.handshakes, "handshakes", 8192, flags.Int(1, 1<<20), "`number` of handshakes outstanding, at most half of what the listen queue takes")
	flags.Var(fs, &s.server, "server", "bin/wsecho", flags.Text, "the server's `program`")
	flags.Var(fs, &s.load, "load", "bin/wsload", flags.Text, "the load generator's `program`")
	flags.Var(fs, &s.page, "page", "", flags.Text, "Markdown `file` in whose marked region the result is put")
	fs.BoolVar(&s.vm, "vm", false, "do it in a virtual machine")
	flags.Var(fs, &s.machine.kernel, "kernel", "", flags.Text, "with -vm: the `file` with its kernel")
	flags.Var(fs, &s.machine.sysctl, "sysctl", "deploy/sysctl.d/60-wsecho-1m.conf", flags.Text, "with -vm: the `file` with its sysctl settings")
	flags.Var(fs, &s.machine.memory, "memory", 20<<30, flags.Size(256<<20, 1<<40), "with -vm: its memory, in `bytes`")
	flags.Var(fs, &s.machine.cpus, "cpus", 2, flags.Int(1, 256), "with -vm: its `number` of CPUs")
	flags.Var(fs, &s.machine.accelerator, "accelerator", "auto", flags.Word("auto", "kvm", "tcg"),
		"with -vm: `how` it runs: by kvm, by tcg (software emulation), or auto, which is kvm if a kernel starts with it")
	flags.Var(fs, &s.machine.log, "log", "bin/vm/million.log", flags.Text, "with -vm: the `file` for its console")
	flags.Var(fs, &s.machine.arguments, "kernel-arguments", "", flags.Text, "with -vm: more `arguments` for its kernel")
	fs.BoolVar(&s.fromLog, "from-log", false, "run nothing, but take the result of an earlier run from -log, for -page")
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

// run is the program: from arguments to exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, fs := newSettings()
	err := flags.Parse(fs, args, "MILLION")
	help := func(w io.Writer) {
		fmt.Fprint(w, "million opens a million connections to wsecho, or as many as the machine allows, and says what they cost.\n\nusage: million [flags]\n\n")
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
		err = r.verdict()
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
