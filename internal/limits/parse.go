package limits

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// numbers reads the whole numbers of a file under /proc/sys, such as tcp_mem's three. There
// have to be so many of them, and they are not negative.
func numbers(text string, want int) ([]int64, error) {
	fields := strings.Fields(text)
	if len(fields) != want {
		return nil, fmt.Errorf("has %d fields, not %d", len(fields), want)
	}
	values := make([]int64, want)
	for i, field := range fields {
		n, err := number(field)
		if err != nil {
			return nil, err
		}
		values[i] = n
	}
	return values, nil
}

// number reads one. What is larger than an int64, as file-max is by default on some systems, is the
// largest.
func number(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return int64(min(n, uint64(Unlimited))), nil
}

// openFiles reads the soft and the hard limit of descriptors from /proc/PID/limits, proc_pid_limits(5).
func openFiles(text string) (soft, hard int64, err error) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if !found {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 3 || fields[2] != "files" {
			return 0, 0, fmt.Errorf("has a line %q", strings.TrimSpace(line))
		}
		for i, p := range []*int64{&soft, &hard} {
			if fields[i] == "unlimited" {
				*p = Unlimited
			} else if *p, err = number(fields[i]); err != nil {
				return 0, 0, err
			}
		}
		return soft, hard, nil
	}
	return 0, 0, errors.New("has no line for open files")
}

// Keyed reads a number of a file such as /proc/meminfo or memory.stat, with the unit that stands behind it: kB
// (which are KiB) or none.
func Keyed(text, key string) (int64, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.TrimSuffix(fields[0], ":") != key {
			continue
		}
		n, err := number(fields[1])
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s: %w", key, err)
		case len(fields) == 2:
			return n, nil
		case len(fields) == 3 && fields[2] == "kB" && n <= Unlimited>>10:
			return n << 10, nil
		}
		return 0, fmt.Errorf("%s: %q is not a size", key, strings.Join(fields[1:], " "))
	}
	return 0, fmt.Errorf("has no %s", key)
}

// TCPSockets reads from /proc/net/sockstat how many TCP sockets are in use, and how many pages they
// hold of what tcp_mem allows.
func TCPSockets(text string) (inUse, pages int64, err error) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "TCP:")
		if !found {
			continue
		}
		fields, seen := strings.Fields(rest), 0
		for i := 0; i+1 < len(fields); i += 2 {
			p := map[string]*int64{"inuse": &inUse, "mem": &pages}[fields[i]]
			if p == nil {
				continue
			}
			if *p, err = number(fields[i+1]); err != nil {
				return 0, 0, fmt.Errorf("TCP %s: %w", fields[i], err)
			}
			seen++
		}
		if seen != 2 {
			return 0, 0, fmt.Errorf("has a line %q", strings.TrimSpace(line))
		}
		return inUse, pages, nil
	}
	return 0, 0, errors.New("has no line for TCP")
}

// ports counts the ports from low to high that are not among the reserved ones: a
// list of numbers and ranges, such as 8080,9148-9150.
func ports(low, high int64, reserved string) (int64, error) {
	if low < 1 || high > 65535 || low > high {
		return 0, fmt.Errorf("%d to %d are not ports", low, high)
	}
	var taken [65536]bool
	for item := range strings.SplitSeq(strings.TrimSpace(reserved), ",") {
		if item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from > to {
			return 0, fmt.Errorf("%q is neither a port nor a range of them", item)
		}
		for port := from; port <= to; port++ {
			taken[port] = true
		}
	}
	free := int64(0)
	for port := low; port <= high; port++ {
		if !taken[port] {
			free++
		}
	}
	return free, nil
}

// A cgroup is where the kernel shows what memory a control group may use.
type cgroup struct {
	dirs            []string // the process's own and those above it, under /sys/fs/cgroup
	limit, used     string   // files in each
	stat, evictable string   // what is used by files that can be dropped does not count
}

// memoryGroup finds the process's from /proc/self/cgroup, cgroups(7): version 1's controller, if it is there, or else version 2's.
// There is none on a system without either.
func memoryGroup(text string) (g cgroup, found bool) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") || !utf8.ValidString(parts[2]) { // io/fs knows no such names
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "memory" {
				return cgroup{dirs: above("sys/fs/cgroup/memory", parts[2]), limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
					stat: "memory.stat", evictable: "total_inactive_file"}, true
			}
		}
		if parts[0] == "0" && parts[1] == "" {
			g = cgroup{dirs: above("sys/fs/cgroup", parts[2]), limit: "memory.max", used: "memory.current", stat: "memory.stat", evictable: "inactive_file"}
			found = true
		}
	}
	return g, found
}

// above is a directory under root, and those above it up to root. In a container the path may
// be the host's; root is then the container's own.
func above(root, dir string) (dirs []string) {
	dir = path.Clean("/" + dir)
	for ; dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, root+dir)
	}
	return append(dirs, root)
}
