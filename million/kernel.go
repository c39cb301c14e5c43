package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"wsecho/internal/limits"
)

// A snapshot holds the memory in use at one moment, in bytes.
type snapshot struct {
	slabs      map[string]slab
	sockets    int64 // TCP sockets in use
	tcpPages   int64 // pages in use of tcp_mem
	free       int64 // free memory of the machine
	tables     int64 // page tables
	vmalloc    int64 // large kernel tables, including those of descriptors
	server     int64 // RSS of the server
	load       int64 // RSS of the load generator
	serverPeak int64 // highest RSS of the server so far
}

// A slab is one of the kernel's slab caches.
type slab struct {
	Objects int64 `json:"objects"` // in use
	Size    int64 `json:"size"`    // bytes per object, with the cache's overhead
	Bytes   int64 `json:"bytes"`   // total size of the cache's pages
}

// parseSlabs parses /proc/slabinfo, slabinfo(5).
func parseSlabs(text string, pageSize int64) (map[string]slab, error) {
	slabs := map[string]slab{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "slabinfo - version") || strings.HasPrefix(line, "#") {
			continue
		}
		// Columns: name active_objs num_objs objsize objperslab pagesperslab : tunables … :
		// slabdata active_slabs num_slabs shared
		counts, rest, _ := strings.Cut(line, " : ") // names may begin with a colon
		fields := strings.Fields(counts)
		_, data, found := strings.Cut(rest, " : slabdata")
		slabdata := strings.Fields(data)
		if !found || len(fields) != 6 || len(slabdata) != 3 {
			return nil, fmt.Errorf("has an unexpected line %q", strings.TrimSpace(line))
		}
		var n [4]int64
		for i, field := range []string{fields[1], fields[3], fields[5], slabdata[1]} {
			x, err := strconv.ParseInt(field, 10, 48)
			if err != nil || x < 0 {
				return nil, fmt.Errorf("has a line %q with an invalid number %q", strings.TrimSpace(line), field)
			}
			n[i] = x
		}
		if n[2] > 1<<20 || n[3] > 1<<40/pageSize {
			return nil, fmt.Errorf("has a line %q with a number out of range", strings.TrimSpace(line))
		}
		slabs[fields[0]] = slab{Objects: n[0], Size: n[1], Bytes: n[3] * n[2] * pageSize}
	}
	if len(slabs) == 0 {
		return nil, errors.New("lists no caches")
	}
	return slabs, nil
}

// takeSnapshot takes a snapshot of the machine and of the processes with the PIDs server and load.
// load is 0 if it does not run yet. Only root may read /proc/slabinfo; for other users, slabs is
// nil.
func takeSnapshot(server, load int) (s snapshot, err error) {
	if text, err := os.ReadFile("/proc/slabinfo"); err == nil {
		if s.slabs, err = parseSlabs(string(text), int64(os.Getpagesize())); err != nil {
			return s, fmt.Errorf("/proc/slabinfo %w", err)
		}
	}
	if s.sockets, s.tcpPages, err = tcpSockets(); err != nil {
		return s, err
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return s, err
	}
	for key, p := range map[string]*int64{"MemFree": &s.free, "PageTables": &s.tables, "VmallocUsed": &s.vmalloc} {
		if *p, err = limits.Keyed(string(meminfo), key); err != nil {
			return s, fmt.Errorf("/proc/meminfo %w", err)
		}
	}
	if s.server, err = processMemory(server, "smaps_rollup", "Rss"); err != nil {
		return s, err
	}
	if s.serverPeak, err = processMemory(server, "status", "VmHWM"); err != nil {
		return s, err
	}
	if load != 0 {
		s.load, err = processMemory(load, "smaps_rollup", "Rss")
	}
	return s, err
}

func tcpSockets() (inUse, pages int64, err error) {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, 0, err
	}
	if inUse, pages, err = limits.TCPSockets(string(text)); err != nil {
		err = fmt.Errorf("/proc/net/sockstat %w", err)
	}
	return inUse, pages, err
}

// processMemory returns a size from a file of a process, in bytes: smaps_rollup, for which the
// kernel counts every page, or status, whose counters are less exact.
func processMemory(pid int, file, key string) (int64, error) {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	_, lines, found := bytes.Cut(text, []byte("\n")) // the first line is a range of addresses, or the process's name
	n, err := limits.Keyed(string(lines), key)
	if err != nil || !found {
		return 0, fmt.Errorf("%s %w", name, err)
	}
	return n, nil
}

// A cacheGrowth is the growth of a slab cache between two snapshots.
type cacheGrowth struct {
	Name string `json:"name"`
	slab
}

// grown returns the change of every cache whose size has changed, the largest growth first.
func grown(before, after map[string]slab) []cacheGrowth {
	var all []cacheGrowth
	for _, name := range slices.Sorted(maps.Keys(after)) {
		was, is := before[name], after[name]
		if is.Bytes != was.Bytes {
			all = append(all, cacheGrowth{name, slab{is.Objects - was.Objects, is.Size, is.Bytes - was.Bytes}})
		}
	}
	slices.SortStableFunc(all, func(a, b cacheGrowth) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all
}
