//go:build !race

package pool

// mapped says that memory is mapped, and not from Go's heap: see reserve.go.
const mapped = true
