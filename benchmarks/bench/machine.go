package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine describes the machine of the runs.
type machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Virtual bool   `json:"virtual"` // whether it is a virtual machine
	Memory  string `json:"memory"`
	Kernel  string `json:"kernel"`
	TCP     string `json:"tcp"` // congestion control; bbr paces sending with timers, which changes the figures
	Go      string `json:"go"`
	Node    string `json:"node"`
	GCC     string `json:"gcc"`
}

func thisMachine() (machine, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return machine{}, err
	}
	var system unix.Sysinfo_t
	if err := unix.Sysinfo(&system); err != nil {
		return machine{}, err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, err
	}
	congestion, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control") // some containers hide it
	goVersion := firstLine("go", "env", "GOVERSION")                          // of the toolchain that builds the servers
	return machine{
		CPU:     cmp.Or(cpuField(string(info), "model name"), runtime.GOARCH),
		Cores:   strings.Count("\n"+string(info), "\nprocessor"),
		Virtual: strings.Contains(" "+cpuField(string(info), "flags")+" ", " hypervisor "),
		Memory:  fmt.Sprintf("%.0f GiB", float64(system.Totalram)*float64(system.Unit)/(1<<30)),
		Kernel:  unix.ByteSliceToString(name.Release[:]),
		TCP:     cmp.Or(strings.TrimSpace(string(congestion)), "none"),
		Go:      goVersion,
		Node:    firstLine("node", "--version"),
		GCC:     firstLine("gcc", "--version"),
	}, nil
}

// cpuField returns the first value of a field in /proc/cpuinfo, or "".
func cpuField(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// firstLine returns the first line that a program prints, or "none" if the program cannot be run.
func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return "none"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// cpuTimes holds the CPU times of all CPUs together.
type cpuTimes struct {
	at     time.Time
	used   time.Duration // by processes and the kernel
	stolen time.Duration // given to other virtual machines by the hypervisor
}

// averageCPUs returns the average number of CPUs in use if spent is the CPU time between before and
// t.
func (t cpuTimes) averageCPUs(before cpuTimes, spent time.Duration) float64 {
	return spent.Seconds() / t.at.Sub(before.at).Seconds()
}

func allCPUs() (cpuTimes, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}, err
	}
	t, err := parseCPUs(string(text))
	t.at = time.Now()
	return t, err
}

// tick is the unit of CPU times in /proc: 1/USER_HZ, see time(7).
const tick = time.Second / 100

// parseCPUs reads the first line of /proc/stat, proc_stat(5).
func parseCPUs(stat string) (t cpuTimes, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return t, errors.New("/proc/stat: no line for all CPUs")
	}
	const idle, iowait, steal = 4, 5, 8
	for i, field := range fields[1:9] { // the fields after steal are guest times, already in user and nice
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat: %w", err)
		}
		switch i + 1 {
		case idle, iowait:
		case steal:
			t.stolen = time.Duration(n) * tick
		default:
			t.used += time.Duration(n) * tick
		}
	}
	return t, nil
}

func (m machine) String() string {
	kind := ""
	if m.Virtual {
		kind = " of a virtual machine"
	}
	return fmt.Sprintf("%s, %d cores%s, %s of memory; Linux %s, TCP congestion control %s, %s, node %s, %s", m.CPU, m.Cores, kind, m.Memory, m.Kernel, m.TCP, m.Go, m.Node, m.GCC)
}

// commit returns the commit that is checked out, with "-dirty" if there are uncommitted changes.
// Changes to docs/ and README.md are ignored, since make bench writes there.
func commit(root string) (string, error) {
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	head, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "", err
	}
	changes, err := git("status", "--porcelain", "--", ".", ":!docs", ":!README.md")
	if changes != "" {
		head += "-dirty"
	}
	return head, err
}
