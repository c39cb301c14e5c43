// Command gobwas echoes with github.com/gobwas/ws and a goroutine a connection.
//
//   - The upgrade is the zero-copy one, on the connection itself ("Zero-copy upgrade" in the module's README: for
//     services under high load), without net/http.
//   - Reading is buffered: wsutil reads header and payload apart, and its author's answer is a bufio.Reader
//     (gobwas/ws issue 103).
//   - Messages are copied from wsutil.Reader to a wsutil.Writer as in the README's second example, but with writers from
//     wsutil's own pool, so that header and payload go out in one write and an idle connection holds none.
//
// Text is not validated, as wsutil.NewReader has it, and messages have no limit.
package main

import (
	"bufio"
	"flag"
	"io"
	"log"
	"net"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// The sizes of writers: those of wsutil's pool end at the second.
const leastWriter, mostWriter = 1 << 10, 64 << 10

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	// What Upgrade reads beyond the request would be lost with its own buffer: it reads from ours.
	in := bufio.NewReader(conn)
	if _, err := ws.Upgrade(struct {
		io.Reader
		io.Writer
	}{in, conn}); err != nil {
		return
	}
	control := wsutil.ControlFrameHandler(conn, ws.StateServerSide)
	messages := wsutil.NewReader(in, ws.StateServerSide)
	messages.OnIntermediate = control
	for {
		header, err := messages.NextFrame()
		if err != nil {
			return
		}
		if header.OpCode.IsControl() {
			err = control(header, messages)
		} else {
			err = echo(conn, header, messages)
		}
		if err != nil {
			return // a close frame too, which has been answered
		}
	}
}

func echo(conn net.Conn, header ws.Header, message io.Reader) error {
	w := wsutil.GetWriter(conn, ws.StateServerSide, header.OpCode, int(min(max(header.Length, leastWriter), mostWriter)))
	defer wsutil.PutWriter(w)
	if _, err := io.Copy(w, message); err != nil {
		return err
	}
	return w.Flush()
}
