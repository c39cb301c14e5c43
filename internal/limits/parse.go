package limits

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// numbers parses a file of want non-negative integers, such as the three of tcp_mem.
func numbers(text string, want int) ([]int64, error) {
	fields := strings.Fields(text)
	if len(fields) != want {
		return nil, fmt.Errorf("has %d fields, want %d", len(fields), want)
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

// number parses a non-negative integer. A number too large for an int64 becomes Unlimited: on some
// systems this is the default of file-max.
func number(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not a non-negative integer", text)
	}
	return int64(min(n, uint64(Unlimited))), nil
}

// openFiles parses the soft and hard limits of descriptors in /proc/PID/limits, proc_pid_limits(5).
func openFiles(text string) (soft, hard int64, err error) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if !found {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 3 || fields[2] != "files" {
			return 0, 0, fmt.Errorf("has an unexpected line %q", strings.TrimSpace(line))
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

// Keyed returns the number for a key in a file such as /proc/meminfo or memory.stat. If its unit is
// kB, which means KiB there, the number is converted to bytes.
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

// TCPSockets parses /proc/net/sockstat. It returns the number of TCP sockets in use, and the number
// of pages that they use of tcp_mem.
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
			return 0, 0, fmt.Errorf("has an unexpected line %q", strings.TrimSpace(line))
		}
		return inUse, pages, nil
	}
	return 0, 0, errors.New("has no line for TCP")
}

// ports counts the ports from low to high that are not reserved. The reserved ports are a list of
// numbers and ranges, such as 8080,9148-9150.
func ports(low, high int64, reserved string) (int64, error) {
	if low < 1 || high > 65535 || low > high {
		return 0, fmt.Errorf("%d to %d is not a range of ports", low, high)
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
			return 0, fmt.Errorf("%q is neither a port nor a range of ports", item)
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

// A cgroup names the files that show the memory limit and use of a control group.
type cgroup struct {
	dirs        []string // directories of the group and its ancestors, under /sys/fs/cgroup
	limit, used string   // files in each directory
	stat        string   // the file with the key evictable
	evictable   string   // key of the page cache that can be evicted, which is subtracted from the use
}

// memoryGroup finds the process's memory cgroup in /proc/self/cgroup, cgroups(7): that of version
// 1's memory controller, if there is one, or else that of version 2.
func memoryGroup(text string) (g cgroup, found bool) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") || !utf8.ValidString(parts[2]) { // io/fs does not accept such names
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "memory" {
				return cgroup{dirs: ancestors("sys/fs/cgroup/memory", parts[2]), limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
					stat: "memory.stat", evictable: "total_inactive_file"}, true
			}
		}
		if parts[0] == "0" && parts[1] == "" {
			g = cgroup{dirs: ancestors("sys/fs/cgroup", parts[2]), limit: "memory.max", used: "memory.current", stat: "memory.stat", evictable: "inactive_file"}
			found = true
		}
	}
	return g, found
}

// ancestors returns a directory under root and its ancestors, up to root. In a container, dir may
// be the host's path; root is then the container's own group.
func ancestors(root, dir string) (dirs []string) {
	dir = path.Clean("/" + dir)
	for ; dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, root+dir)
	}
	return append(dirs, root)
}
