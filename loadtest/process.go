package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used so far.
type usage struct {
	user, system time.Duration
	rss          int64 // bytes
}

func (u usage) minus(before usage) usage {
	return usage{u.user - before.user, u.system - before.system, u.rss - before.rss}
}

func (u usage) cpu() time.Duration { return u.user + u.system }

// clockTick is the unit of CPU times in /proc, on every architecture that Go runs on (USER_HZ, time(7)).
const clockTick = time.Second / 100

// usageOf reads what a process has used from /proc.
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	u, err := parseStat(string(stat))
	if err != nil {
		return usage{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return u, nil
}

// exactRSS is a process's resident memory, counted page by page. What proc_pid_stat(5) has is kept in
// parts that may be off by some hundred KiB, but is all that another user's process shows.
func exactRSS(pid int, otherwise int64) int64 {
	if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		if rss, ok := parseRollup(string(rollup)); ok {
			return rss
		}
	}
	return otherwise
}

// parseStat reads proc_pid_stat(5). The second field is a name in parentheses that
// may have anything in it.
func parseStat(stat string) (usage, error) {
	_, rest, _ := cutLast(stat, ") ")
	fields := strings.Fields(rest)
	const state, utime, stime, rss = 3, 14, 15, 24 // numbered from 1, as in the manual
	if len(fields) <= rss-state {
		return usage{}, errors.New("has too few fields")
	}
	var n [3]int64
	for i, field := range []int{utime, stime, rss} {
		var err error
		if n[i], err = strconv.ParseInt(fields[field-state], 10, 64); err != nil {
			return usage{}, err
		}
	}
	return usage{time.Duration(n[0]) * clockTick, time.Duration(n[1]) * clockTick, n[2] * int64(os.Getpagesize())}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func parseRollup(rollup string) (rss int64, ok bool) {
	for line := range strings.Lines(rollup) {
		if rest, found := strings.CutPrefix(line, "Rss:"); found {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// ownUsage is what this process has used.
func ownUsage() usage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic("wsload: getrusage: " + err.Error())
	}
	return usage{user: time.Duration(r.Utime.Nano()), system: time.Duration(r.Stime.Nano())}
}
