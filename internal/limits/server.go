package limits

import "syscall"

// The figures below are what wsecho itself takes from a machine. This file is their only source:
// the server keeps to them, -check, million, chaos and e2e compute with them, and a test compares
// the documents with them.
const (
	// StartMemory is the resident memory of a server that has started: 10 MiB of it are pages of
	// the binary.
	StartMemory = 12 << 20

	// ScrapeMemory is what the first scrape of /metrics adds, once.
	ScrapeMemory = 4 << 20

	// HeapGrowth is by how much Go's heap grows before it is collected (with GOGC unset).
	HeapGrowth = 3 << 20

	// SlotMemory is what a connection that holds nothing takes, in bytes.
	SlotMemory = 64

	// ProcessDescriptors are kept for what the process opens beside connections.
	ProcessDescriptors = 128

	// WorkerDescriptors are kept per worker: its epoll and eventfd, and up to 64 connections that
	// are only to be refused.
	WorkerDescriptors = 2 + 64
)

// A Server is a configuration of wsecho, as far as its needs depend on it.
type Server struct {
	Workers      int
	BufferSize   int // bytes of a worker's buffer, and of its spare block
	BufferBudget int // bytes
}

// Descriptors returns how many descriptors are kept from connections. Where a process may have
// few descriptors at all, a quarter of them is kept instead: see ConnsFor.
func (s Server) Descriptors() int64 { return int64(ProcessDescriptors + WorkerDescriptors*s.Workers) }

// Memory returns the most resident memory, in bytes, that the server takes beside its connections'
// slots, whatever peers do.
func (s Server) Memory() int64 {
	return StartMemory + ScrapeMemory + s.Growth()
}

// Growth returns the part of Memory that comes under load: Go's heap, each worker's buffer and
// spare block, and the buffer budget, with a byte of bookkeeping for each 64.
func (s Server) Growth() int64 {
	budget := int64(s.BufferBudget)
	return HeapGrowth + int64(s.Workers)*2*int64(s.BufferSize) + budget + budget/64
}

// RaiseFiles raises the soft limit of this process's descriptors (RLIMIT_NOFILE) to the hard one,
// and returns it. Go does so too when a program starts, but to one less.
func RaiseFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		// Not by package unix: then os/exec does not put the old limit back for a child.
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	return int(min(limit.Cur, 1<<31-1)), nil
}
