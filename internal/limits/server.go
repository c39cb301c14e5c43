package limits

import "syscall"

// The constants below state what wsecho itself needs. They are defined only here: the server keeps
// within them, -check, million, chaos and e2e compute with them, and a test compares the README
// with them.
const (
	// StartMemory is the resident memory of a server after its start, in bytes. 10 MiB of it are
	// pages of the binary.
	StartMemory = 12 << 20

	// ScrapeMemory is the memory that the first scrape of /metrics adds, in bytes. Later scrapes
	// add none.
	ScrapeMemory = 4 << 20

	// HeapGrowth is the growth of Go's heap between collections (with GOGC unset), and the memory
	// of the log queue while stderr is blocked, in bytes.
	HeapGrowth = 4 << 20

	// SlotMemory is the memory of a connection that buffers nothing, in bytes.
	SlotMemory = 64

	// ProcessDescriptors is the number of descriptors kept for purposes other than connections.
	ProcessDescriptors = 128

	// WorkerDescriptors is the number of descriptors kept per worker: for its epoll instance, its
	// eventfd, and up to 64 connections that it accepts in order to refuse them.
	WorkerDescriptors = 2 + 64
)

// A Server holds the part of wsecho's configuration that determines its needs.
type Server struct {
	Workers      int
	BufferSize   int // size of a worker's buffer and of its spare block, in bytes
	BufferBudget int // bytes
}

// Descriptors returns the number of descriptors that connections may not use. If the process has
// few descriptors, a quarter of them is kept instead: see ConnsFor.
func (s Server) Descriptors() int64 { return int64(ProcessDescriptors + WorkerDescriptors*s.Workers) }

// Memory returns the maximum resident memory of the server, in bytes, without the connections'
// slots. Peers cannot make the server exceed it.
func (s Server) Memory() int64 {
	return StartMemory + ScrapeMemory + s.Growth()
}

// Growth returns the part of Memory that is only used under load, in bytes: Go's heap, each
// worker's buffer and spare block, and the buffer budget with its bookkeeping, 1 byte per 64.
func (s Server) Growth() int64 {
	budget := int64(s.BufferBudget)
	return HeapGrowth + int64(s.Workers)*2*int64(s.BufferSize) + budget + budget/64
}

// RaiseFiles raises this process's soft limit of descriptors (RLIMIT_NOFILE) to the hard limit, and
// returns it. Go's runtime also does so at start, but to one less than the hard limit.
func RaiseFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		// With package syscall and not unix: os/exec then does not restore the old limit in a
		// child.
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	return int(min(limit.Cur, 1<<31-1)), nil
}
