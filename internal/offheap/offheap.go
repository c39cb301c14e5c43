//go:build !race

package offheap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mapped reports whether the memory comes from mmap(2), so that a page uses memory only after it
// has been written to.
const Mapped = true

// Make returns a slice of n zero elements. T must not contain a pointer, since the garbage
// collector does not scan the slice. The error is that of mmap(2), with the size in bytes.
func Make[T any](n int) ([]T, error) {
	var zero T
	size := max(n, 1) * int(unsafe.Sizeof(zero))
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n), nil
}

// Free unmaps a slice that Make returned. Freeing nil does nothing.
func Free[T any](s []T) {
	if s == nil {
		return
	}
	var zero T
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), max(len(s), 1)*int(unsafe.Sizeof(zero))))
}

// Discard gives the pages of mem back to the system (madvise(2), MADV_DONTNEED). They read as
// zero afterwards. Mem starts and ends at a page boundary.
func Discard(mem []byte) {
	_ = unix.Madvise(mem, unix.MADV_DONTNEED)
}
