package limits

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

// machine returns the files of a machine, as the kernel shows them, with the given changes. A file
// changed to "" does not exist.
func machine(changes map[string]string) fs.FS {
	files := map[string]string{
		"proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units     \n" +
			"Max processes             96365                96365                processes \n" +
			"Max open files            1024                 20000                files     \n",
		"proc/sys/fs/nr_open":                       "1048576\n",
		"proc/sys/fs/file-max":                      "2466170\n",
		"proc/sys/fs/file-nr":                       "810\t0\t2466170\n",
		"proc/sys/fs/epoll/max_user_watches":        "5491511\n",
		"proc/sys/net/ipv4/tcp_mem":                 "287898\t383867\t575796\n",
		"proc/net/sockstat":                         "sockets: used 217\nTCP: inuse 203 orphan 0 tw 0 alloc 203 mem 221\nUDP: inuse 0 mem 0\n",
		"proc/sys/net/netfilter/nf_conntrack_max":   "262144\n",
		"proc/sys/net/netfilter/nf_conntrack_count": "144\n",
		"proc/meminfo":                              "MemTotal:       24684084 kB\nMemFree:        21712600 kB\nMemAvailable:   23894124 kB\nHugePages_Total:       0\n",
		"proc/self/cgroup":                          "0::/system.slice/wsecho.service\n",
		"sys/fs/cgroup/system.slice/memory.max":     "max\n",
		"proc/sys/net/ipv4/ip_local_port_range":     "32768\t60999\n",
		"proc/sys/net/ipv4/ip_local_reserved_ports": "\n",
		"proc/sys/net/core/somaxconn":               "4096\n",
		"proc/sys/net/ipv4/tcp_max_syn_backlog":     "2048\n",
		"proc/sys/net/core/netdev_max_backlog":      "1000\n",
	}
	maps.Copy(files, changes)
	root := fstest.MapFS{}
	for name, text := range files {
		if text != "" {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return root
}

func read(t *testing.T, changes map[string]string) Machine {
	t.Helper()
	m, err := Read(machine(changes))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRead(t *testing.T) {
	m := read(t, nil)
	want := Machine{SoftFiles: 1024, HardFiles: 20000, NrOpen: 1048576, FileMax: 2466170, FilesUsed: 810, EpollWatches: 5491511,
		TCPPressure: 383867, TCPMax: 575796, TCPUsed: 221, PageSize: m.PageSize, Conntrack: 262144, ConntrackUsed: 144,
		Available: 23894124 << 10, CgroupLeft: Unlimited, LocalPorts: 28232, Somaxconn: 4096, SynBacklog: 2048, PacketQueue: 1000}
	if m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}
}

// A limit that cannot be read allows any number of connections.
func TestUnknownLimitsAllowEverything(t *testing.T) {
	m, err := Read(fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Of(Load{Descriptors: 100, Memory: 1 << 20, Ends: 1}) {
		if l.Allows() != Unlimited || l.Show(l.Has) != "unknown" {
			t.Errorf("%s: got %s, which allows %d; want unknown, which allows any number", l.Name, l.Show(l.Has), l.Allows())
		}
	}
}

func TestHere(t *testing.T) {
	m, err := Here()
	if err != nil || m.HardFiles < 3 || m.Available < 1<<20 || m.NrOpen < m.HardFiles {
		t.Errorf("got %+v, %v; want plausible limits of this machine", m, err)
	}
}

// A file that cannot be parsed is an error that names the file. The other files are still read.
func TestInvalidFiles(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"no number", "proc/sys/fs/nr_open", "many\n", `"many" is not a non-negative integer`},
		{"negative", "proc/sys/fs/nr_open", "-1\n", `"-1" is not a non-negative integer`},
		{"empty", "proc/sys/fs/nr_open", "\n", "has 0 fields, want 1"},
		{"too many numbers", "proc/sys/fs/file-max", "1 2\n", "has 2 fields, want 1"},
		{"too few numbers", "proc/sys/net/ipv4/tcp_mem", "1\t2\n", "has 2 fields, want 3"},
		{"other limits", "proc/self/limits", "Max cpu time unlimited unlimited seconds\n", "no line for open files"},
		{"other unit", "proc/self/limits", "Max open files 1 2 sockets\n", "has an unexpected line"},
		{"truncated limit", "proc/self/limits", "Max open files 1", "has an unexpected line"},
		{"no TCP", "proc/net/sockstat", "sockets: used 217\n", "no line for TCP"},
		{"TCP without mem", "proc/net/sockstat", "TCP: inuse 203 orphan 0\n", "has an unexpected line"},
		{"TCP with a name at the end", "proc/net/sockstat", "TCP: inuse 203 mem\n", "has an unexpected line"},
		{"TCP with no number", "proc/net/sockstat", "TCP: inuse 203 mem -4\n", `"-4" is not a non-negative integer`},
		{"old meminfo", "proc/meminfo", "MemTotal: 1 kB\nMemFree: 1 kB\n", "no MemAvailable"},
		{"meminfo in other units", "proc/meminfo", "MemAvailable: 1 MB\n", "not a size"},
		{"meminfo, overflow", "proc/meminfo", "MemAvailable: 9223372036854775807 kB\n", "not a size"},
		{"ports in reverse order", "proc/sys/net/ipv4/ip_local_port_range", "60999 32768\n", "is not a range of ports"},
		{"port out of range", "proc/sys/net/ipv4/ip_local_port_range", "1 65536\n", "is not a range of ports"},
		{"reserved ports", "proc/sys/net/ipv4/ip_local_reserved_ports", "80-\n", `"80-" is neither`},
		{"reserved ports in reverse order", "proc/sys/net/ipv4/ip_local_reserved_ports", "90-80\n", `"90-80" is neither`},
		{"cgroup's use", cgroupDir + "memory.current", "lots\n", `"lots" is not a non-negative integer`},
		{"cgroup's use, empty", cgroupDir + "memory.current", "\n", "has 0 fields, want 1"},
		{"cgroup", "sys/fs/cgroup/system.slice/memory.max", "lots\n", `"lots" is not a non-negative integer`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changes := map[string]string{c.file: c.text}
			if c.file == cgroupDir+"memory.current" {
				changes[cgroupDir+"memory.max"] = "1000000\n" // without a limit it is not read
			}
			m, err := Read(machine(changes))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
			if m.Somaxconn != 4096 {
				t.Errorf("Somaxconn: got %d, want 4096: the other files must still be read", m.Somaxconn)
			}
			file := strings.ReplaceAll(c.file, "reserved_ports", "port_range")
			if err != nil && !strings.Contains(err.Error(), "/"+file) {
				t.Errorf("error %v does not name %s", err, file)
			}
		})
	}
}

func TestUnlimited(t *testing.T) {
	m := read(t, map[string]string{
		"proc/self/limits":     "Max open files unlimited unlimited files\n",
		"proc/sys/fs/file-max": "18446744073709551615\n", // more than an int64
	})
	if m.HardFiles != Unlimited || m.FileMax != Unlimited {
		t.Errorf("got HardFiles %d and FileMax %d, want both unlimited", m.HardFiles, m.FileMax)
	}
}

// A range of ports includes both ends, and may be a single port.
func TestPortRanges(t *testing.T) {
	for _, c := range []struct {
		ends, reserved string
		want           int64
	}{
		{"5000 5000", "", 1},
		{"5000 5001", "", 2},
		{"1 65535", "", 65535},
		{"5000 5000", "5000", 0},
		{"5000 5002", "5001-5001", 2},
		{"5000 5002", "5000-5002", 0},
		{"5000 5002", "4999,5003", 3},
	} {
		m := read(t, map[string]string{
			"proc/sys/net/ipv4/ip_local_port_range":     c.ends + "\n",
			"proc/sys/net/ipv4/ip_local_reserved_ports": c.reserved + "\n",
		})
		if m.LocalPorts != c.want {
			t.Errorf("range %s, reserved %q: got %d ports, want %d", c.ends, c.reserved, m.LocalPorts, c.want)
		}
	}
}

func TestReservedPorts(t *testing.T) {
	m := read(t, map[string]string{
		"proc/sys/net/ipv4/ip_local_port_range":     "1024 65535\n",
		"proc/sys/net/ipv4/ip_local_reserved_ports": "80,8080,9000-9009,9005\n",
	})
	if want := int64(64512 - 11); m.LocalPorts != want {
		t.Errorf("got %d ports, want %d", m.LocalPorts, want)
	}
}

const cgroupDir = "sys/fs/cgroup/system.slice/wsecho.service/"

func TestCgroup(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"own limit minus use, without evictable page cache", map[string]string{
			cgroupDir + "memory.max": "1000000\n", cgroupDir + "memory.current": "400000\n", cgroupDir + "memory.stat": "anon 1\ninactive_file 100000\n",
		}, 700000},
		{"smaller limit of the parent", map[string]string{
			cgroupDir + "memory.max": "1000000\n", "sys/fs/cgroup/system.slice/memory.max": "5000\n", "sys/fs/cgroup/system.slice/memory.current": "6000\n",
		}, 0},
		{"a container's own root", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5000\n"}, 5000},
		{"version 1", map[string]string{
			"proc/self/cgroup": "8:pids:/a\n4:cpu,memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "900\n", "sys/fs/cgroup/memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 50\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 150},
		{"none", map[string]string{"proc/self/cgroup": "nonsense\n1:name=systemd:/\n"}, Unlimited},
		{"path outside the root", map[string]string{"proc/self/cgroup": "0::/../../etc\n", "sys/fs/cgroup/memory.max": "7\n"}, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			if m := read(t, c.files); m.CgroupLeft != c.want {
				t.Errorf("CgroupLeft: got %d bytes, want %d", m.CgroupLeft, c.want)
			}
		})
	}
}

func TestSmallest(t *testing.T) {
	load := Load{Descriptors: 194, Memory: 1 << 20, Ends: 1}
	for _, c := range []struct {
		name    string
		changes map[string]string
		ends    int64
		least   string
		allows  int64
	}{
		{"descriptors", nil, 1, "open files per process", 20000 - 194},
		{"few descriptors", map[string]string{"proc/self/limits": "Max open files 64 100 files\n"}, 1, "open files per process", 75},
		{"files of all", map[string]string{"proc/sys/fs/file-max": "2004\n"}, 1, "fs.file-max", 1000},
		{"files of all, with the clients", map[string]string{"proc/sys/fs/file-max": "2004\n"}, 2, "fs.file-max", 500},
		{"all are taken", map[string]string{"proc/sys/fs/file-max": "100\n"}, 1, "fs.file-max", 0},
		{"epoll", map[string]string{"proc/sys/fs/epoll/max_user_watches": "999\n"}, 2, "fs.epoll.max_user_watches", 499},
		{"TCP", map[string]string{"proc/sys/net/ipv4/tcp_mem": "1 1221 9999\n"}, 1, "net.ipv4.tcp_mem (pressure)", 1000},
		{"conntrack", map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "1144\n"}, 2, "nf_conntrack_max", 1000},
		{"conntrack that tracks nothing", map[string]string{"proc/sys/net/netfilter/nf_conntrack_max": "1144\n",
			"proc/sys/net/netfilter/nf_conntrack_count": "0\n"}, 1, "open files per process", 20000 - 194},
		{"memory", map[string]string{"proc/meminfo": "MemAvailable: 2048 kB\n"}, 1, "available memory", (1 << 20) / (KernelBytes + ServerBytes)},
		{"memory, with the clients", map[string]string{"proc/meminfo": "MemAvailable: 2048 kB\n"}, 2, "available memory", (1 << 20) / (2*KernelBytes + ServerBytes + 140)},
		{"the cgroup's, with the clients", map[string]string{"sys/fs/cgroup/system.slice/memory.max": "2097152\n"}, 2, "memory of the cgroup", (1 << 20) / (2*KernelBytes + ServerBytes + 140)},
		{"the cgroup's", map[string]string{"sys/fs/cgroup/system.slice/memory.max": "2097152\n"}, 1, "memory of the cgroup", (1 << 20) / (KernelBytes + ServerBytes)},
	} {
		t.Run(c.name, func(t *testing.T) {
			load.Ends = c.ends
			least := Smallest(read(t, c.changes).Of(load))
			if least.Name != c.least || least.Allows() != c.allows {
				t.Errorf("got %s, which allows %d; want %s, which allows %d", least.Name, least.Allows(), c.least, c.allows)
			}
		})
	}
}

// A limit that is raised to Needs allows exactly the wanted number of connections.
func TestNeedsIsEnough(t *testing.T) {
	for _, ends := range []int64{1, 2} {
		for _, l := range read(t, nil).Of(Load{Descriptors: 194, Memory: 1 << 20, Ends: ends, Most: 10}) {
			for _, conns := range []int64{1, 2, 3, 100, 581, 582, 583, 1_000_000} {
				raised := l
				raised.Has = l.Needs(conns)
				if l.needs != nil {
					raised.Fixed = min(194, raised.Has/4)
				}
				if raised.Allows() != conns {
					t.Errorf("%s: Needs(%d) is %d, which allows %d", l.Name, conns, raised.Has, raised.Allows())
				}
			}
		}
	}
}

func TestShortage(t *testing.T) {
	short := Short(read(t, nil).Of(Load{Descriptors: 194, Ends: 1}), 300_000)
	if len(short) != 2 {
		t.Fatalf("got %+v, want 2 limits", short)
	}
	if want := "open files per process: limit 20,000, needed 300,194 (280,194 short), enough for 19,806 connections. To raise it: LimitNOFILE=300194 in the unit, or ulimit -Hn 300194 as root"; short[0].Shortage(300_000) != want {
		t.Errorf("got %s, want %s", short[0].Shortage(300_000), want)
	}
	if got := short[1].Shortage(300_000); !strings.HasPrefix(got, "nf_conntrack_max: limit 262,144, needed 300,144 (38,000 short)") {
		t.Errorf("got %s, want the shortage of nf_conntrack_max", got)
	}
}

// FuzzParsers checks that the parsers never panic, and never return a negative number.
func FuzzParsers(f *testing.F) {
	root := machine(nil)
	fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := fs.ReadFile(root, name)
			f.Add(string(text))
		}
		return err
	})
	f.Add("4:cpu,memory:/a/../b\n0::/\n")
	f.Add("80,8080,9000-9009")
	f.Fuzz(func(t *testing.T, text string) {
		var found []int64
		add := func(err error, values ...int64) {
			if err == nil {
				found = append(found, values...)
			}
		}
		values, err := numbers(text, 3)
		add(err, values...)
		soft, hard, err := openFiles(text)
		add(err, soft, hard)
		n, err := Keyed(text, "MemAvailable")
		add(err, n)
		inUse, pages, err := TCPSockets(text)
		add(err, inUse, pages)
		n, err = ports(1024, 65535, text)
		add(err, n)
		if err == nil && n > 64512 {
			t.Errorf("got %d ports, want at most 64512", n)
		}
		for _, n := range found {
			if n < 0 {
				t.Errorf("got negative number %d from %q", n, text)
			}
		}
		if group, found := memoryGroup(text); found {
			for _, dir := range group.dirs {
				if !fs.ValidPath(dir) || !strings.HasPrefix(dir, "sys/fs/cgroup") {
					t.Errorf("got directory %q, want one under sys/fs/cgroup", dir)
				}
			}
		}
	})
}
