//go:build race

package offheap

// Mapped reports whether the memory comes from mmap(2). Under the race detector it comes from Go's
// heap, because the detector checks no other memory.
const Mapped = false

// Make returns a slice of n zero elements. The error is always nil.
func Make[T any](n int) ([]T, error) { return make([]T, n, max(n, 1)), nil }

// Free does nothing: the garbage collector frees the slice.
func Free[T any]([]T) {}

// Discard sets all bytes of mem to zero.
func Discard(mem []byte) { clear(mem) }
