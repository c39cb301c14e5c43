// Command gobwas-epoll echoes with github.com/gobwas/ws, its wsutil helpers, and one goroutine that
// waits on epoll for all connections. This is the design of eranyanay/1m-go-websockets
// (4_optimize_gobwas) and of the many programs derived from it, which show how to hold a million
// connections.
//
//   - A net/http handler upgrades with ws.UpgradeHTTP and then returns, which frees its goroutine
//     and buffers.
//   - wsutil.ReadClientData reads from a readable connection, and blocks until the message is
//     complete; wsutil.WriteServerMessage answers. While one peer's message is incomplete, all
//     other connections wait.
//   - All connections share one bufio.Reader, as the library's author advises (gobwas/ws issue
//     103). A turn ends when the reader is empty, so that it holds no data between turns. Writes
//     are buffered in the same way.
//
// Text is validated, which is wsutil's default, and message size is not limited.
package main

import (
	"bufio"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"golang.org/x/sys/unix"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		log.Fatal("epoll_create1: ", err)
	}
	l := &loop{epoll: fd, conns: map[int32]net.Conn{}}
	go l.run()
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return // UpgradeHTTP has answered with an error status
		}
		if rw.Reader.Buffered() > 0 { // frames that arrived with the request, of which epoll does not know
			l.turn(conn, rw.Reader)
		}
		if err := l.add(conn); err != nil {
			log.Print(err)
			conn.Close()
		}
	})))
}

type loop struct {
	epoll int

	mu    sync.Mutex // guards conns
	conns map[int32]net.Conn
}

// add registers a connection with epoll, level-triggered.
func (l *loop) add(conn net.Conn) error {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	err = raw.Control(func(fd uintptr) {
		l.conns[int32(fd)] = conn
		failed = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)})
	})
	if err != nil {
		return err
	}
	return failed
}

func (l *loop) run() {
	in := bufio.NewReader(nil)
	var events [256]unix.EpollEvent
	for {
		n, err := unix.EpollWait(l.epoll, events[:], -1)
		if err != nil && err != unix.EINTR {
			log.Fatal("epoll_wait: ", err)
		}
		for _, e := range events[:max(n, 0)] {
			l.mu.Lock()
			conn := l.conns[e.Fd]
			l.mu.Unlock()
			in.Reset(conn)
			if !l.turn(conn, in) {
				l.mu.Lock()
				delete(l.conns, e.Fd)
				l.mu.Unlock()
				conn.Close() // also removes it from epoll
			}
		}
	}
}

// turn echoes messages until the reader is empty. It returns false if the connection has ended.
func (l *loop) turn(conn net.Conn, in *bufio.Reader) bool {
	out := bufio.NewWriter(conn)
	both := struct {
		io.Reader
		io.Writer
	}{in, out} // the helper answers pings and close frames
	for {
		message, op, err := wsutil.ReadClientData(both)
		if err != nil {
			out.Flush() // sends the reply to a close frame
			return false
		}
		if err := wsutil.WriteServerMessage(out, op, message); err != nil {
			return false
		}
		if in.Buffered() == 0 {
			return out.Flush() == nil
		}
	}
}
