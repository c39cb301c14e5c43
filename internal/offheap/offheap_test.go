package offheap_test

import (
	"math"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"wsecho/internal/offheap"
)

type entry struct{ a, b uint64 }

func TestMakeReturnsZeroElements(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		table, err := offheap.Make[entry](n)
		if err != nil {
			t.Fatal(err)
		}
		if len(table) != n {
			t.Errorf("got %d elements, want %d", len(table), n)
		}
		for i := range table {
			if table[i] != (entry{}) {
				t.Errorf("element %d: got %+v, want zero", i, table[i])
			}
			table[i] = entry{1, 2}
		}
		offheap.Free(table)
	}
	offheap.Free[entry](nil)
}

func TestMakeReportsTheSizeThatCannotBeMapped(t *testing.T) {
	if !offheap.Mapped {
		t.Skip("under the race detector the memory comes from Go's heap")
	}
	_, err := offheap.Make[byte](math.MaxInt64 >> 1)
	if err == nil || !strings.Contains(err.Error(), "4611686018427387903 bytes") {
		t.Errorf("half of the address space: got %v, want an error with the size", err)
	}
}

func TestDiscardedPagesReadAsZero(t *testing.T) {
	page := unix.Getpagesize()
	table, err := offheap.Make[byte](4 * page)
	if err != nil {
		t.Fatal(err)
	}
	defer offheap.Free(table)
	for i := range table {
		table[i] = 1
	}
	offheap.Discard(table[page : 3*page])
	for i, want := range []byte{1, 0, 0, 1} {
		if got := table[i*page]; got != want {
			t.Errorf("page %d: got %d, want %d", i, got, want)
		}
	}
}

func TestUntouchedPagesUseNoMemory(t *testing.T) {
	if !offheap.Mapped {
		t.Skip("under the race detector the memory comes from Go's heap")
	}
	page := unix.Getpagesize()
	table, err := offheap.Make[byte](64 * page)
	if err != nil {
		t.Fatal(err)
	}
	defer offheap.Free(table)
	table[10*page] = 1
	resident := make([]byte, 64)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&table[0])), uintptr(len(table)), uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		t.Fatal("mincore:", errno)
	}
	n := 0
	for _, r := range resident {
		n += int(r & 1)
	}
	if n != 1 {
		t.Errorf("got %d of 64 pages resident, want only the one that was written to", n)
	}
}
