// Command gobwas echoes with github.com/gobwas/ws and one goroutine per connection.
//
//   - It uses the zero-copy upgrade on the connection itself, without net/http ("Zero-copy upgrade"
//     in the module's README: for services under high load).
//   - Reads are buffered by a bufio.Reader, as the author advises (gobwas/ws issue 103), because
//     wsutil reads header and payload separately.
//   - Messages are copied from a wsutil.Reader to a wsutil.Writer as in the README's second
//     example, but the writers come from wsutil's pool: header and payload are sent in one write,
//     and an idle connection holds no writer.
//
// Text is not validated, the default of wsutil.NewReader, and message size is not limited.
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

// Limits of a writer's size, in bytes. 64 KiB is the largest size in wsutil's pool.
const minWriter, maxWriter = 1 << 10, 64 << 10

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
	// Upgrade reads through this buffer. With its own, frames received after the request would be
	// lost.
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
			return // including a close frame, which control has answered
		}
	}
}

func echo(conn net.Conn, header ws.Header, message io.Reader) error {
	w := wsutil.GetWriter(conn, ws.StateServerSide, header.OpCode, int(min(max(header.Length, minWriter), maxWriter)))
	defer wsutil.PutWriter(w)
	if _, err := io.Copy(w, message); err != nil {
		return err
	}
	return w.Flush()
}
