package hijack

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkConnect compares the two ways in: what it takes to connect, be upgraded, echo once and leave. Time and
// allocations are those of the whole process, but the client's part, plain system calls, is the same in both and allocates nothing.
// docs/measurements.md has a run of it.
func BenchmarkConnect(b *testing.B) {
	eachWay(b, func(b *testing.B, addr *unix.SockaddrInet4) {
		b.ReportAllocs()
		for b.Loop() {
			unix.Close(visits(b, addr))
		}
	})
}

// BenchmarkHold compares what a connection that stays costs in memory, Go's and mapped, beyond its slot: bytes a connection with
// some thousands open.
func BenchmarkHold(b *testing.B) {
	eachWay(b, func(b *testing.B, addr *unix.SockaddrInet4) {
		const n = 4000
		for b.Loop() {
			before := inUse()
			fds := make([]int, n)
			for i := range fds {
				fds[i] = visits(b, addr)
			}
			b.ReportMetric(float64(inUse()-before)/n, "B/conn")
			b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	})
}

// inUse is what Go has in use: objects after a collection, and stacks.
func inUse() int64 {
	var m runtime.MemStats
	for range 3 { // pools are emptied in the second one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func eachWay(b *testing.B, f func(b *testing.B, addr *unix.SockaddrInet4)) {
	h := opens(b)
	for _, way := range []struct{ name, addr string }{{"listener", h.front}, {"nethttp", h.side}} {
		a, err := net.ResolveTCPAddr("tcp4", way.addr)
		if err != nil {
			b.Fatal(err)
		}
		addr := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}}
		b.Run(way.name, func(b *testing.B) { f(b, addr) })
	}
}

var (
	greeting = []byte(request + maskedHello)
	answer   = make([]byte, 4096)
)

// visits connects and echoes once.
func visits(b *testing.B, addr *unix.SockaddrInet4) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, addr)
	}
	if err == nil {
		_, err = unix.Write(fd, greeting)
	}
	if err != nil {
		b.Fatal(err)
	}
	end := []byte(hello)
	for n := 0; !bytes.HasSuffix(answer[:n], end); {
		k, err := unix.Read(fd, answer[n:])
		if err != nil || k == 0 {
			b.Fatalf("%d bytes, %v after %q", k, err, strings.TrimSpace(string(answer[:n])))
		}
		n += k
	}
	// A reset, so that thousands of ports are not kept for a minute.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return fd
}
