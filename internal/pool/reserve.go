//go:build !race

package pool

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve makes a slice of n zero elements without pointers, outside the
// garbage collector's heap. A page of it costs memory only once it is written to, and
// until release gives it back.
func reserve[T any](n int) ([]T, error) {
	var zero T
	size := max(n, 1) * int(unsafe.Sizeof(zero))
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of address space: %w", size, err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n), nil
}

// unreserve ends what reserve has made.
func unreserve[T any](s []T) {
	if s == nil { // reserve failed, or was not reached
		return
	}
	var zero T
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), max(len(s), 1)*int(unsafe.Sizeof(zero))))
}

// release gives the pages of mem back to the system. They read as zero afterwards.
func release(mem []byte) {
	_ = unix.Madvise(mem, unix.MADV_DONTNEED)
}
