package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"wsecho/internal/format"
)

// A result is what a run has shown. Sizes are in bytes, times in seconds if they do not say otherwise.
type result struct {
	Asked       int       `json:"asked"`
	Connections int       `json:"connections"`
	Rate        int       `json:"rate"`
	Server      string    `json:"server"` // commands
	Load        string    `json:"load"`
	Began       time.Time `json:"began"`
	CPUs        int       `json:"cpus"`
	Emulated    bool      `json:"emulated"`
	Opening     float64   `json:"opening_s"` // until all were open, but for some that cannot be told from others' sockets
	Sockets     int64     `json:"sockets"`   // both ends, and what others have opened since

	ServerEmpty, ServerFull, ServerPeak, LoadFull int64 // RSS
	TCPPages                                      int64 // of tcp_mem, taken by both ends
	MemoryTaken                                   int64 // by which the machine's free memory has shrunk
	Tables, Vmalloc                               int64
	Caches                                        []cacheGrowth

	Report report `json:"report"`
}

// report is what is used of wsload's report.
type report struct {
	Version   string
	Go        string
	Kernel    string
	Messages  uint64
	Open      int
	Duration  float64   `json:"duration_s"`
	Latency   quantiles `json:"latency_us"`
	Handshake quantiles `json:"handshake_us"`
	Errors    struct {
		Total uint64
		Kinds map[string]struct {
			Count uint64
			First string
		}
	}
}

type quantiles struct {
	Count         int64
	P50, P90, P99 float64
	P999          float64 `json:"p99.9"`
	Max           float64
}

// count gathers what was taken between two looks.
func (r *result) count(before, full snapshot) {
	r.Sockets = full.sockets - before.sockets
	r.ServerEmpty, r.ServerFull, r.ServerPeak, r.LoadFull = before.server, full.server, max(full.server, full.serverPeak), full.load // the kernel's own peak is less exact
	r.TCPPages = full.tcpPages - before.tcpPages
	r.MemoryTaken = before.free - full.free
	r.Tables, r.Vmalloc = full.tables-before.tables, full.vmalloc-before.vmalloc
	r.Caches = grown(before.slabs, full.slabs)
}

// each is a size's part of a connection.
func (r *result) each(size int64) float64 { return float64(size) / float64(r.Connections) }

func (r *result) slabBytes() (sum int64) {
	for _, c := range r.Caches {
		sum += c.Bytes
	}
	return sum
}

// verdict is an error if the run was not what it should have been.
func (r *result) verdict() error {
	switch {
	case r.Report.Errors.Total > 0:
		return fmt.Errorf("%d errors", r.Report.Errors.Total)
	case r.Report.Open < r.Connections:
		return fmt.Errorf("%d of %d connections were open", r.Report.Open, r.Connections)
	}
	return nil
}

// rows are the result for people, name and value.
func (r *result) rows() (rows [][2]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	add("open connections", "%s of %s, all open after about %.0f s", format.Thousands(int64(r.Report.Open)), format.Thousands(int64(r.Connections)), r.Opening)
	add("server, RSS", "%s; %s before the first connection; at most %s", format.Bytes(r.ServerFull), format.Bytes(r.ServerEmpty), format.Bytes(r.ServerPeak))
	add("server, a connection", "%.1f bytes in user space", r.each(r.ServerFull-r.ServerEmpty))
	add("load generator, RSS", "%s", format.Bytes(r.LoadFull))
	if len(r.Caches) > 0 {
		add("kernel, slab", "%s for both ends: %.0f bytes a connection, %.0f an end", format.Bytes(r.slabBytes()), r.each(r.slabBytes()), r.each(r.slabBytes())/2)
	} else {
		add("kernel, slab", "unknown: only root may read /proc/slabinfo")
	}
	add("kernel, other", "page tables %s, vmalloc (tables of descriptors) %s", format.Bytes(r.Tables), format.Bytes(r.Vmalloc))
	add("machine", "%s less free memory than before: %.0f bytes a connection, for both ends and both programs", format.Bytes(r.MemoryTaken), r.each(r.MemoryTaken))
	add("tcp_mem", "%s pages for both ends: %.2f an end", format.Thousands(r.TCPPages), r.each(r.TCPPages)/2)
	add("echoes while all are open", "%s in %.0f s, at %s a second; every byte as it was sent", format.Thousands(int64(r.Report.Messages)), r.Report.Duration, format.Thousands(int64(r.Rate)))
	add("latency, from when due", "p50 %s, p99 %s, max %s", short(r.Report.Latency.P50), short(r.Report.Latency.P99), short(r.Report.Latency.Max))
	add("handshake", "p50 %s, p99 %s, max %s", short(r.Report.Handshake.P50), short(r.Report.Handshake.P99), short(r.Report.Handshake.Max))
	if r.Report.Errors.Total == 0 {
		add("errors", "none")
	}
	for kind, e := range r.Report.Errors.Kinds {
		add("errors", "%s %s; the first: %s", format.Thousands(int64(e.Count)), kind, e.First)
	}
	return rows
}

// cacheRows are the slab caches that matter.
func (r *result) cacheRows() (rows [][2]string) {
	for _, c := range r.Caches {
		if each := r.each(c.Bytes); each >= 8 {
			rows = append(rows, [2]string{c.Name, fmt.Sprintf("%.0f bytes a connection: %.2f objects of %d bytes", each, r.each(c.Objects), c.Size)})
		}
	}
	return rows
}

// short is a time from microseconds.
func short(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.2f s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.0f µs", us)
}

// write writes the result for people.
func (r *result) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	for _, row := range r.rows() {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	for _, row := range r.cacheRows() {
		fmt.Fprintf(t, "  %s\t  %s\n", row[0], row[1])
	}
	return t.Flush()
}

// resultMark begins the line of a console's log that has the result for programs.
const resultMark = "million-result: "

func (r *result) writeLine(w io.Writer) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", resultMark, line)
	}
	return err
}

// readLog finds the result in a log.
func readLog(name string) (*result, error) {
	log, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r, err := findResult(string(log))
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return r, nil
}

func findResult(log string) (*result, error) {
	i := strings.LastIndex(log, resultMark)
	if i < 0 {
		return nil, errors.New("has no result: the run did not come to its end")
	}
	line, _, _ := strings.Cut(log[i+len(resultMark):], "\n")
	r := &result{}
	if err := json.Unmarshal([]byte(strings.TrimSpace(line)), r); err != nil {
		return nil, fmt.Errorf("has a result that cannot be read: %w", err)
	}
	if r.Connections < 1 {
		return nil, errors.New("has a result without connections")
	}
	return r, nil
}

const regionBegin, regionEnd = "<!-- result: written by the program -->\n", "<!-- end of the result -->"

// putInto puts the result into the marked region of a Markdown page.
func (r *result) putInto(name string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(page), regionBegin)
	_, after, closed := strings.Cut(rest, regionEnd)
	if !found || !closed {
		return fmt.Errorf("%s has no region between %q and %q", name, strings.TrimSpace(regionBegin), regionEnd)
	}
	return os.WriteFile(name, []byte(before+regionBegin+r.markdown()+regionEnd+after), 0o644)
}

func (r *result) markdown() string {
	var b strings.Builder
	where := fmt.Sprintf("Linux %s, %d CPUs", r.Report.Kernel, r.CPUs)
	if r.Emulated {
		where += ", in QEMU's software emulation, where everything takes many times as long as on a real machine"
	}
	fmt.Fprintf(&b, "\n%s, %s; wsecho %s, %s.\n\n    %s\n    %s\n\n| | |\n| --- | --- |\n", r.Began.Format(time.DateOnly), where, r.Report.Version, r.Report.Go, r.Server, r.Load)
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	if rows := r.cacheRows(); len(rows) > 0 {
		b.WriteString("\nThe kernel's caches that have grown, both ends:\n\n| | |\n| --- | --- |\n")
		for _, row := range rows {
			fmt.Fprintf(&b, "| `%s` | %s |\n", row[0], row[1])
		}
	}
	b.WriteString("\n")
	return b.String()
}
