package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const slabinfo = `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                  203    260   2368   13    8 : tunables    0    0    0 : slabdata     20     20      0
:A-0000192           100    105    192   21    1 : tunables    0    0    0 : slabdata      5      5      0
filp                   0      0    192   21    1 : tunables    0    0    0 : slabdata      0      0      0
`

func TestParseSlabs(t *testing.T) {
	slabs, err := parseSlabs(slabinfo, 4096)
	want := map[string]slab{"TCP": {203, 2368, 20 * 8 * 4096}, ":A-0000192": {100, 192, 5 * 4096}, "filp": {0, 192, 0}}
	if err != nil || !reflect.DeepEqual(slabs, want) {
		t.Errorf("got %v, %v; want %v", slabs, err, want)
	}
	full := map[string]slab{"TCP": {40203, 2368, 12<<20 + 20*8*4096}, ":A-0000192": {100, 192, 5 * 4096}, "filp": {40000, 192, 8 << 20}}
	growth := grown(slabs, full)
	if want := []cacheGrowth{{"TCP", slab{40000, 2368, 12 << 20}}, {"filp", slab{40000, 192, 8 << 20}}}; !reflect.DeepEqual(growth, want) {
		t.Errorf("got growth %v, want %v", growth, want)
	}
}

func TestInvalidSlabs(t *testing.T) {
	header, row := slabinfo[:strings.Index(slabinfo, "TCP")], "TCP 203 260 2368 13 8 : tunables 0 0 0 : slabdata 20 20 0\n"
	if _, err := parseSlabs(header+row, 4096); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"no rows":           header,
		"truncated":         header + row[:30],
		"no slabdata":       header + "TCP 203 260 2368 13 8\n",
		"missing column":    header + strings.Replace(row, "260 ", "", 1),
		"space in the name": header + "T CP" + row[3:],
		"negative":          header + strings.Replace(row, "203", "-203", 1),
		"no number":         header + strings.Replace(row, "2368", "large", 1),
		"overflow":          header + strings.Replace(row, "20 20 0", "20 281474976710655 0", 1),
	} {
		if slabs, err := parseSlabs(text, 4096); err == nil {
			t.Errorf("%s: got %v, want an error", name, slabs)
		}
	}
}

// FuzzSlabs checks that the parser never returns a negative size.
func FuzzSlabs(f *testing.F) {
	f.Add(slabinfo)
	f.Fuzz(func(t *testing.T, text string) {
		slabs, err := parseSlabs(text, 4096)
		for name, s := range slabs {
			if err != nil || s.Objects < 0 || s.Size < 0 || s.Bytes < 0 {
				t.Errorf("%s: got %+v, %v; want no negative size, and no slabs with an error", name, s, err)
			}
		}
	})
}

func TestSysctl(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"a setting", "# a comment\n; another\n\n net.core.somaxconn = 65535 \n", ""},
		{"several numbers", "net.ipv4.tcp_mem=1 2 3", ""},
		{"missing", "net.nothing = 1", "no such file"},
		{"missing, failure ignored", "-net.nothing = 1\nnet.core.somaxconn = 65535", ""},
		{"no value", "net.core.somaxconn", "is not key = value"},
		{"no key", "= 1", "is not key = value"},
		{"a path", "net/core/somaxconn = 1", "is not key = value"},
		{"parent directory", "net..core = 1", "is not key = value"},
		{"a pattern", "net.*.somaxconn = 1", "is not key = value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for _, key := range []string{"net/core/somaxconn", "net/ipv4/tcp_mem"} {
				os.MkdirAll(filepath.Join(root, filepath.Dir(key)), 0o755)
				os.WriteFile(filepath.Join(root, key), []byte("0"), 0o644)
			}
			err := applySysctl(c.conf, root, &bytes.Buffer{})
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want %q", err, c.want)
			}
			if c.want != "" || strings.Contains(c.conf, "tcp_mem") {
				return
			}
			if value, _ := os.ReadFile(filepath.Join(root, "net/core/somaxconn")); string(value) != "65535" {
				t.Errorf("somaxconn: got %q, want 65535", value)
			}
		})
	}
}

// applySysctl can apply every setting in deploy/sysctl.d, and each setting is preceded by a
// comment.
func TestShippedSysctl(t *testing.T) {
	files, _ := filepath.Glob("../deploy/sysctl.d/*.conf")
	if len(files) < 2 {
		t.Fatalf("got files %q, want at least 2", files)
	}
	for _, file := range files {
		conf, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before := ""
		for line := range strings.Lines(string(conf)) {
			if strings.Contains(line, " = ") && line[0] != '#' {
				key, _, _ := strings.Cut(strings.TrimPrefix(line, "-"), " = ")
				if !strings.HasPrefix(before, "#") {
					t.Errorf("%s: %s is not preceded by a comment", file, key)
				}
				root := t.TempDir()
				os.MkdirAll(filepath.Join(root, filepath.Dir(strings.ReplaceAll(key, ".", "/"))), 0o755)
				os.WriteFile(filepath.Join(root, strings.ReplaceAll(key, ".", "/")), nil, 0o644)
				if err := applySysctl(line, root, &bytes.Buffer{}); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			before = line
		}
	}
}

// cpio unpacks the archive to the same files.
func TestArchive(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("program cpio is not installed; required in CI")
		}
		t.Skip("program cpio is not installed")
	}
	var archive bytes.Buffer
	files := []rootFile{{"proc", isDirectory, nil}, {"init", isProgram, []byte("#!")}, {"a", isPlain, []byte("12345")}, {"abc", isPlain, nil}}
	if err := writeArchive(&archive, files); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cpio, "-id", "--quiet")
	cmd.Dir, cmd.Stdin = t.TempDir(), &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(cmd.Dir, f.name))
		if err != nil || info.IsDir() != (f.mode == isDirectory) || uint32(info.Mode().Perm()) != f.mode&0o777 {
			t.Errorf("%s: got %v, %v; want mode %o", f.name, info, err, f.mode)
		}
		if f.mode == isDirectory {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(cmd.Dir, f.name)); err != nil || !bytes.Equal(data, f.data) {
			t.Errorf("%s: got %q, %v; want %q", f.name, data, err, f.data)
		}
	}
}

func TestProgramFileRequiresStaticLinking(t *testing.T) {
	if _, err := programFile("init", "million_test.go"); err == nil {
		t.Error("a text file: got no error, want one")
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("program sh is not installed")
	}
	if _, err := programFile("init", sh); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("sh: got error %v, want one that names CGO_ENABLED=0", err)
	}
}

func sample() *result {
	r := &result{Connections: 1000, Asked: 1000, Sockets: 2000, ServerEmpty: 1 << 20, ServerFull: 1<<20 + 72_000, Caches: []cacheGrowth{{"TCP", slab{2000, 2304, 4_608_000}}, {"x", slab{1, 1, 1000}}}}
	r.Report.Open = 1000
	r.Report.Latency.P99 = 12_345
	return r
}

func TestResult(t *testing.T) {
	var log bytes.Buffer
	log.WriteString("[    0.1] booting\r\n")
	sample().write(&log)
	if err := sample().writeLine(&log); err != nil {
		t.Fatal(err)
	}
	log.WriteString("\r\n[   94.1] reboot: Power down\r\n")
	for _, want := range []string{"72.0 bytes in user space", "4609 bytes per connection, 2304 per end", "p99 12.3 ms", "2.00 objects of 2304 bytes"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("output does not contain %q: %s", want, log.String())
		}
	}
	text := strings.ReplaceAll(log.String(), "}\n", "}\r\n") // as on a terminal
	r, err := findResult(text)
	if err != nil || !reflect.DeepEqual(r, sample()) {
		t.Fatalf("got %+v, %v; want %+v", r, err, sample())
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
	r.Report.Open--
	if err := r.check(); err == nil {
		t.Error("lost connection: got no error, want one")
	}
	r = sample()
	r.Report.Errors.Total = 3
	if err := r.check(); err == nil {
		t.Error("errors in the report: got no error, want one")
	}
	for _, invalid := range []string{"", "booting", resultMark + "{", resultMark + "{}\n"} {
		if _, err := findResult(invalid); err == nil {
			t.Errorf("%q: got a result, want an error", invalid)
		}
	}
}

func TestPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	os.WriteFile(page, []byte("before\n"+regionBegin+"old\n"+regionEnd+"\nafter\n"), 0o644)
	for range 2 { // the second time replaces the first result
		if err := sample().putInto(page); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(page)
	for _, want := range []string{"before\n" + regionBegin, regionEnd + "\nafter\n", "| `TCP` | 4608 bytes per connection"} {
		if strings.Count(string(text), want) != 1 {
			t.Errorf("page does not contain %q exactly once: %s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("the page still contains the old result")
	}
	os.WriteFile(page, []byte("no region"), 0o644)
	if err := sample().putInto(page); err == nil {
		t.Error("page without a region: got no error, want one")
	}
	shipped, err := os.ReadFile("../docs/million.md")
	if err != nil || !strings.Contains(string(shipped), regionBegin) || !strings.Contains(string(shipped), regionEnd) {
		t.Errorf("docs/million.md has no region for the result: %v", err)
	}
}

// The console detects the start of the program even if the line arrives byte by byte.
func TestConsoleDetectsStart(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out, up: make(chan struct{})}
	for i, b := range []byte("booting\n" + guestIsUp + "\n") {
		c.Write([]byte{b})
		if c.isUp != (i >= len("booting\n"+guestIsUp)-1) {
			t.Fatalf("after %q: got isUp %v, want %v", out.String(), c.isUp, !c.isUp)
		}
	}
	<-c.up
}

// A complete run of 100 connections with the real programs.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	for name, pkg := range map[string]string{"wsecho": "../cmd/server", "wsload": "../loadtest"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	var out, errs bytes.Buffer
	page := filepath.Join(dir, "page.md")
	os.WriteFile(page, []byte(regionBegin+regionEnd), 0o644)
	args := []string{"-connections", "100", "-rate", "100", "-server", dir + "/wsecho", "-load", dir + "/wsload", "-page", page}
	if status := run(args, &out, &errs, nil); status != 0 {
		t.Fatalf("exit status %d, %s%s", status, out.String(), errs.String())
	}
	for _, want := range []string{"100 of 100", "bytes in user space", "errors                      none"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output does not contain %q: %s", want, out.String())
		}
	}
	if text, _ := os.ReadFile(page); !strings.Contains(string(text), "| open connections | 100 of 100") {
		t.Errorf("page does not contain the result: %s", text)
	}
	errs.Reset()
	if status := run(slices.Concat(args, []string{"-server", dir + "/nothing"}), &out, &errs, nil); status != 1 || !strings.Contains(errs.String(), "no such file") {
		t.Errorf("missing server: got exit status %d, %q; want 1 and \"no such file\"", status, errs.String())
	}
	if status := run([]string{"-vm", "-kernel", ""}, &out, &errs, nil); status != 1 || !strings.Contains(errs.String(), "-kernel") {
		t.Errorf("-vm without -kernel: got exit status %d, %q; want 1 and -kernel", status, errs.String())
	}
}
