package measure

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is the CPU time and memory that a process has used, in total or during an interval.
type Usage struct {
	User, System time.Duration // CPU time
	RSS          int64         // resident memory in bytes; during an interval: its growth
}

func (u Usage) minus(before Usage) Usage {
	return Usage{u.User - before.User, u.System - before.System, u.RSS - before.RSS}
}

// CPU returns the CPU time in user and kernel mode.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// clockTick is the unit of CPU times in /proc on every architecture that Go supports (USER_HZ,
// time(7)).
const clockTick = time.Second / 100

// usageOf returns the usage of a process from /proc/PID/stat.
func usageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	u, err := parseStat(string(stat))
	if err != nil {
		return Usage{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return u, nil
}

// exactRSS returns a process's resident memory in bytes from smaps_rollup, which the kernel counts
// page by page. If that file cannot be read, as with another user's process, it returns otherwise:
// the figure of proc_pid_stat(5), which may be off by some 100 KiB.
func exactRSS(pid int, otherwise int64) int64 {
	if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		if rss, ok := parseRollup(string(rollup)); ok {
			return rss
		}
	}
	return otherwise
}

// parseStat parses /proc/PID/stat (proc_pid_stat(5)). The second field is a name in parentheses
// that may contain any character.
func parseStat(stat string) (Usage, error) {
	_, rest, _ := cutLast(stat, ") ")
	fields := strings.Fields(rest)
	const state, utime, stime, rss = 3, 14, 15, 24 // numbered from 1, as in the manual
	if len(fields) <= rss-state {
		return Usage{}, errors.New("has too few fields")
	}
	var n [3]int64
	for i, field := range []int{utime, stime, rss} {
		var err error
		if n[i], err = strconv.ParseInt(fields[field-state], 10, 64); err != nil {
			return Usage{}, err
		}
	}
	return Usage{time.Duration(n[0]) * clockTick, time.Duration(n[1]) * clockTick, n[2] * int64(os.Getpagesize())}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// parseRollup returns the resident memory in bytes from the text of /proc/PID/smaps_rollup.
func parseRollup(rollup string) (rss int64, ok bool) {
	for line := range strings.Lines(rollup) {
		if rest, found := strings.CutPrefix(line, "Rss:"); found {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// ownUsage returns the CPU time of this process.
func ownUsage() Usage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic("measure: getrusage: " + err.Error())
	}
	return Usage{User: time.Duration(r.Utime.Nano()), System: time.Duration(r.Stime.Nano())}
}

// A sampler samples the usage of the server's and the generator's process.
type sampler struct {
	pid  int // the server's; 0: unknown
	last sample
	gone error // why the server's process can no longer be sampled
}

// A sample is the usage of the processes at a time of the plan's clock.
type sample struct {
	at          int64
	server, own Usage
}

// sample samples the processes. It returns an error only if the server's process does not exist the
// first time. If that process ends later, gone is set, so that the run is still reported.
func (w *sampler) sample(at int64) (m sample, err error) {
	m.at, m.own = at, ownUsage()
	if w.pid == 0 {
		return m, nil
	}
	if w.gone == nil {
		m.server, err = usageOf(w.pid)
	}
	switch {
	case w.gone == nil && err == nil:
	case w.last.at == 0:
		return m, fmt.Errorf("-pid %d: %w", w.pid, err)
	default:
		if w.gone == nil {
			w.gone = err
		}
		m.server = w.last.server
	}
	return m, nil
}

// exactSample is like sample but returns the exact resident memory, which takes longer.
func (w *sampler) exactSample(at int64) (sample, error) {
	m, err := w.sample(at)
	if err == nil && w.pid != 0 {
		m.server.RSS = exactRSS(w.pid, m.server.RSS)
	}
	return m, err
}
