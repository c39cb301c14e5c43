package netpoll

import (
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkSystemCalls measures an echo over a loopback TCP connection with different system calls
// to read and write the socket. The peer uses the same calls in all cases.
func BenchmarkSystemCalls(b *testing.B) {
	raw := func(read, write uintptr, flags uintptr) func(fd int, p []byte) {
		return func(fd int, p []byte) {
			n, _, errno := unix.RawSyscall6(read, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
			if errno == 0 {
				_, _, errno = unix.RawSyscall6(write, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), n, flags, 0, 0)
			}
			if errno != 0 {
				b.Fatal(errno)
			}
		}
	}
	for _, way := range []struct {
		name string
		echo func(fd int, p []byte)
	}{
		{"recvfrom and sendto, raw", raw(unix.SYS_RECVFROM, unix.SYS_SENDTO, unix.MSG_NOSIGNAL)},
		{"read and write, raw", raw(unix.SYS_READ, unix.SYS_WRITE, 0)},
		{"read and write, through the scheduler", func(fd int, p []byte) {
			n, err := unix.Read(fd, p)
			if err == nil {
				_, err = unix.Write(fd, p[:n])
			}
			if err != nil {
				b.Fatal(err)
			}
		}},
	} {
		for _, size := range []int{128, 1024} {
			b.Run(fmt.Sprintf("%s/%d", way.name, size), func(b *testing.B) {
				p := newPair(b)
				message, buffer := make([]byte, size), make([]byte, 64<<10)
				b.SetBytes(int64(size))
				for b.Loop() {
					if n, err := Send(p.far, message); n != size || err != nil {
						b.Fatal(n, err)
					}
					way.echo(p.near, buffer)
					if n, err := Recv(p.far, buffer); n != size || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}
