package hijack

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkConnect compares the listener with the handler: the cost of a connection from connect
// over upgrade and one echo to close. Time and allocations are those of the whole process. The
// client's part is the same in both cases and allocates nothing. docs/measurements.md has a run.
func BenchmarkConnect(b *testing.B) {
	eachWay(b, func(b *testing.B, addr *unix.SockaddrInet4) {
		b.ReportAllocs()
		for b.Loop() {
			unix.Close(visits(b, addr))
		}
	})
}

// BenchmarkHold compares the memory of an open connection, in Go's heap and stacks: bytes per
// connection with 4000 open.
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

// inUse returns the number of bytes in Go's heap, after a collection, and stacks.
func inUse() int64 {
	var m runtime.MemStats
	for range 3 { // sync.Pools are emptied by the second one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// eachWay runs f with the address of the listener and with that of the net/http server.
func eachWay(b *testing.B, f func(b *testing.B, addr *unix.SockaddrInet4)) {
	h := newHarness(b)
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

// visits connects, is upgraded, echoes once, and returns the descriptor.
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
			b.Fatalf("read %d bytes, error %v after %q", k, err, strings.TrimSpace(string(answer[:n])))
		}
		n += k
	}
	// Close with a reset, so that thousands of ports do not stay in TIME_WAIT.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return fd
}
