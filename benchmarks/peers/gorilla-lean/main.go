// Command gorilla-lean echoes with github.com/gorilla/websocket and as little memory a connection, and as few
// allocations a message, as its documentation tells how to get.
//
//   - Write buffers are pooled ("Buffers" in the module's documentation: a connection holds one only while it writes,
//     and a larger one then costs little), and read buffers as small as most messages need.
//   - A message is copied from its reader to its writer through a pooled buffer: ReadMessage allocates each.
//   - The handler returns and leaves the connection to a goroutine of its own, so that the memory of the request can
//     go (gorilla/websocket issue 134).
//
// Text is not validated, and messages have no limit.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	readBuffer = 2 << 10 // most messages with their headers
	copyBuffer = 64 << 10
)

var (
	upgrader = websocket.Upgrader{ReadBufferSize: readBuffer, WriteBufferSize: 4 << 10, WriteBufferPool: new(sync.Pool)}
	buffers  = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(serve)))
}

func serve(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the peer has been told
	}
	go func() {
		defer c.Close()
		for {
			kind, message, err := c.NextReader()
			if err != nil || echo(c, kind, message) != nil {
				return
			}
		}
	}()
}

func echo(c *websocket.Conn, kind int, message io.Reader) error {
	w, err := c.NextWriter(kind)
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	// Without the writer's ReadFrom, which would send fragments no longer than its own buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, message, buffer[:]); err != nil {
		return err
	}
	return w.Close()
}
