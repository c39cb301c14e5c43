// Package format formats numbers for human readers.
package format

import (
	"fmt"
	"math"
	"strconv"
)

// Thousands formats n with commas between groups of three digits: 1,234,567.
func Thousands[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes formats a number of bytes in the largest binary unit that fits, with one digit after the
// point: 1.5 GiB. Below 1 KiB it prints whole bytes: 107 B.
func Bytes[T int | int64 | float64](n T) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if math.Abs(float64(n)) >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.0f B", float64(n))
}
