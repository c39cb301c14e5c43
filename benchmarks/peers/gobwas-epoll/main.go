// Command gobwas-epoll echoes with github.com/gobwas/ws, one goroutine that waits on epoll for all connections, and
// the wsutil helpers: the design of the many programs after eranyanay/1m-go-websockets (4_optimize_gobwas), which
// show how a million connections are held.
//
//   - The upgrade is ws.UpgradeHTTP in a net/http handler, which then ends, and its goroutine and buffers with it.
//   - A connection that is readable is read by wsutil.ReadClientData, which waits for the rest of a message, and
//     answered by wsutil.WriteServerMessage. While one peer's message is half there, all others wait.
//   - Reads go through one bufio.Reader for all connections, as the library's author advises (gobwas/ws issue 103), and
//     a turn ends when that is empty, so that it holds nothing between turns. Writes are gathered likewise.
//
// Text is validated, which is wsutil's default, and messages have no limit.
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
			return // the peer has been told
		}
		if rw.Reader.Buffered() > 0 { // frames right behind the request: they are in no socket
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

// add has a connection watched, level-triggered.
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
				conn.Close() // which ends the watch as well
			}
		}
	}
}

// turn echoes messages until nothing is left in the reader. It is false when the
// connection has ended.
func (l *loop) turn(conn net.Conn, in *bufio.Reader) bool {
	out := bufio.NewWriter(conn)
	both := struct {
		io.Reader
		io.Writer
	}{in, out} // the helper answers pings and closes
	for {
		message, op, err := wsutil.ReadClientData(both)
		if err != nil {
			out.Flush() // the answer to a close frame
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
