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

// A snapshot is what memory is in use at a moment, in bytes.
type snapshot struct {
	slabs      map[string]slab
	sockets    int64 // TCP sockets in use
	tcpPages   int64 // of tcp_mem
	free       int64 // of the whole machine
	tables     int64 // page tables
	vmalloc    int64 // large tables of the kernel, those of descriptors among them
	server     int64 // RSS
	load       int64
	serverPeak int64
}

// A slab is one of the kernel's caches of equal objects.
type slab struct {
	Objects int64 `json:"objects"` // in use
	Size    int64 `json:"size"`    // of one, with what the cache adds
	Bytes   int64 `json:"bytes"`   // of the pages that they lie in
}

// parseSlabs reads /proc/slabinfo, slabinfo(5).
func parseSlabs(text string, pageSize int64) (map[string]slab, error) {
	slabs := map[string]slab{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "slabinfo - version") || strings.HasPrefix(line, "#") {
			continue
		}
		// name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs shared
		counts, rest, _ := strings.Cut(line, " : ") // a name may begin with a colon
		fields := strings.Fields(counts)
		_, data, found := strings.Cut(rest, " : slabdata")
		behind := strings.Fields(data)
		if !found || len(fields) != 6 || len(behind) != 3 {
			return nil, fmt.Errorf("has a line %q", strings.TrimSpace(line))
		}
		var n [4]int64
		for i, field := range []string{fields[1], fields[3], fields[5], behind[1]} {
			x, err := strconv.ParseInt(field, 10, 48)
			if err != nil || x < 0 {
				return nil, fmt.Errorf("has a line %q with a number %q", strings.TrimSpace(line), field)
			}
			n[i] = x
		}
		if n[2] > 1<<20 || n[3] > 1<<40/pageSize {
			return nil, fmt.Errorf("has a line %q with numbers too large", strings.TrimSpace(line))
		}
		slabs[fields[0]] = slab{Objects: n[0], Size: n[1], Bytes: n[3] * n[2] * pageSize}
	}
	if len(slabs) == 0 {
		return nil, errors.New("has no caches")
	}
	return slabs, nil
}

// look takes a snapshot. Only root may read /proc/slabinfo; without it there are no slabs.
func look(server, load int) (s snapshot, err error) {
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

// processMemory is a size of a process, page by page (smaps_rollup) or as the kernel keeps it (status).
func processMemory(pid int, file, key string) (int64, error) {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	_, lines, found := bytes.Cut(text, []byte("\n")) // the first line is the range of addresses, or the name
	n, err := limits.Keyed(string(lines), key)
	if err != nil || !found {
		return 0, fmt.Errorf("%s %w", name, err)
	}
	return n, nil
}

// A cacheGrowth is what a cache has grown by.
type cacheGrowth struct {
	Name string `json:"name"`
	slab
}

// grown are the caches that have grown, the largest first.
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
