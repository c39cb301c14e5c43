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

// A result holds the figures of a run. Sizes are in bytes.
type result struct {
	Asked       int       `json:"asked"`
	Connections int       `json:"connections"`
	Rate        int       `json:"rate"`
	Server      string    `json:"server"` // the server's command line
	Load        string    `json:"load"`   // the load generator's command line
	Began       time.Time `json:"began"`
	CPUs        int       `json:"cpus"`
	Emulated    bool      `json:"emulated"`
	Opening     float64   `json:"opening_s"` // seconds until all were open, within the allowance for other programs' sockets
	Sockets     int64     `json:"sockets"`   // TCP sockets of both ends, and those that other programs opened meanwhile

	ServerEmpty, ServerFull, ServerPeak, LoadFull int64 // RSS
	TCPPages                                      int64 // pages of tcp_mem that both ends use
	MemoryTaken                                   int64 // decrease of the machine's free memory
	Tables, Vmalloc                               int64
	Caches                                        []cacheGrowth

	Report report `json:"report"`
}

// report holds the fields of wsload's report that are used here.
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

// count computes the differences between the snapshots before the first connection and with all
// open.
func (r *result) count(before, full snapshot) {
	r.Sockets = full.sockets - before.sockets
	r.ServerEmpty, r.ServerFull, r.ServerPeak, r.LoadFull = before.server, full.server, max(full.server, full.serverPeak), full.load // VmHWM is less exact and may be lower than RSS
	r.TCPPages = full.tcpPages - before.tcpPages
	r.MemoryTaken = before.free - full.free
	r.Tables, r.Vmalloc = full.tables-before.tables, full.vmalloc-before.vmalloc
	r.Caches = grown(before.slabs, full.slabs)
}

// perConnection divides a size by the number of connections.
func (r *result) perConnection(size int64) float64 { return float64(size) / float64(r.Connections) }

func (r *result) slabBytes() (sum int64) {
	for _, c := range r.Caches {
		sum += c.Bytes
	}
	return sum
}

// check returns an error if there were errors, or if connections were lost.
func (r *result) check() error {
	switch {
	case r.Report.Errors.Total > 0:
		return fmt.Errorf("the load generator reported %d errors", r.Report.Errors.Total)
	case r.Report.Open < r.Connections:
		return fmt.Errorf("only %d of %d connections were open at the end", r.Report.Open, r.Connections)
	}
	return nil
}

// rows returns the result for human readers, as pairs of name and value.
func (r *result) rows() (rows [][2]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	add("open connections", "%s of %s, all open after about %.0f s", format.Thousands(int64(r.Report.Open)), format.Thousands(int64(r.Connections)), r.Opening)
	add("server, RSS", "%s; %s before the first connection; at most %s", format.Bytes(r.ServerFull), format.Bytes(r.ServerEmpty), format.Bytes(r.ServerPeak))
	add("server, per connection", "%.1f bytes in user space", r.perConnection(r.ServerFull-r.ServerEmpty))
	add("load generator, RSS", "%s", format.Bytes(r.LoadFull))
	if len(r.Caches) > 0 {
		add("kernel, slab", "%s for both ends: %.0f bytes per connection, %.0f per end", format.Bytes(r.slabBytes()), r.perConnection(r.slabBytes()), r.perConnection(r.slabBytes())/2)
	} else {
		add("kernel, slab", "unknown: only root may read /proc/slabinfo")
	}
	add("kernel, other", "page tables %s, vmalloc (descriptor tables) %s", format.Bytes(r.Tables), format.Bytes(r.Vmalloc))
	add("machine", "%s less free memory than before: %.0f bytes per connection, for both ends and both programs", format.Bytes(r.MemoryTaken), r.perConnection(r.MemoryTaken))
	add("tcp_mem", "%s pages for both ends: %.2f per end", format.Thousands(r.TCPPages), r.perConnection(r.TCPPages)/2)
	add("echoes with all open", "%s in %.0f s, at %s per second; every byte verified", format.Thousands(int64(r.Report.Messages)), r.Report.Duration, format.Thousands(int64(r.Rate)))
	add("latency from intended time", "p50 %s, p99 %s, max %s", timeText(r.Report.Latency.P50), timeText(r.Report.Latency.P99), timeText(r.Report.Latency.Max))
	add("handshake", "p50 %s, p99 %s, max %s", timeText(r.Report.Handshake.P50), timeText(r.Report.Handshake.P99), timeText(r.Report.Handshake.Max))
	if r.Report.Errors.Total == 0 {
		add("errors", "none")
	}
	for kind, e := range r.Report.Errors.Kinds {
		add("errors", "%s %s; first: %s", format.Thousands(int64(e.Count)), kind, e.First)
	}
	return rows
}

// cacheRows returns the slab caches that have grown by at least 8 bytes per connection.
func (r *result) cacheRows() (rows [][2]string) {
	for _, c := range r.Caches {
		if size := r.perConnection(c.Bytes); size >= 8 {
			rows = append(rows, [2]string{c.Name, fmt.Sprintf("%.0f bytes per connection: %.2f objects of %d bytes", size, r.perConnection(c.Objects), c.Size)})
		}
	}
	return rows
}

// timeText formats a time that is given in microseconds.
func timeText(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.2f s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.0f µs", us)
}

// write writes the result as a table for human readers.
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

// resultMark is the start of the console log's line that holds the result as JSON.
const resultMark = "million-result: "

// writeLine writes the result as a line of JSON after resultMark.
func (r *result) writeLine(w io.Writer) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", resultMark, line)
	}
	return err
}

// readLog returns the last result in a console log.
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
		return nil, errors.New("contains no result: the run did not finish")
	}
	line, _, _ := strings.Cut(log[i+len(resultMark):], "\n")
	r := &result{}
	if err := json.Unmarshal([]byte(strings.TrimSpace(line)), r); err != nil {
		return nil, fmt.Errorf("contains an invalid result: %w", err)
	}
	if r.Connections < 1 {
		return nil, errors.New("contains a result without connections")
	}
	return r, nil
}

const regionBegin, regionEnd = "<!-- result: written by the program -->\n", "<!-- end of the result -->"

// putInto replaces the region between the markers of a Markdown page by the result.
func (r *result) putInto(name string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(page), regionBegin)
	_, after, closed := strings.Cut(rest, regionEnd)
	if !found || !closed {
		return fmt.Errorf("%s contains no region between the lines %q and %q", name, strings.TrimSpace(regionBegin), regionEnd)
	}
	return os.WriteFile(name, []byte(before+regionBegin+r.markdown()+regionEnd+after), 0o644)
}

func (r *result) markdown() string {
	var b strings.Builder
	where := fmt.Sprintf("Linux %s, %d CPUs", r.Report.Kernel, r.CPUs)
	if r.Emulated {
		where += ", in QEMU's software emulation, which is many times slower than a real machine"
	}
	fmt.Fprintf(&b, "\n%s, %s; wsecho %s, %s.\n\n    %s\n    %s\n\n| quantity | value |\n| --- | --- |\n", r.Began.Format(time.DateOnly), where, r.Report.Version, r.Report.Go, r.Server, r.Load)
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	if rows := r.cacheRows(); len(rows) > 0 {
		b.WriteString("\nGrowth of the kernel's slab caches, both ends:\n\n| cache | growth |\n| --- | --- |\n")
		for _, row := range rows {
			fmt.Fprintf(&b, "| `%s` | %s |\n", row[0], row[1])
		}
	}
	b.WriteString("\n")
	return b.String()
}
