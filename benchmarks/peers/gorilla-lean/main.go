// Command gorilla-lean echoes with github.com/gorilla/websocket, and uses as little memory per
// connection and as few allocations per message as the module's documentation describes.
//
//   - Write buffers are pooled ("Buffers" in the module's documentation): a connection holds one
//     only while it writes. Read buffers are just large enough for most messages.
//   - Messages are copied from reader to writer through a pooled buffer, since ReadMessage
//     allocates memory for each message.
//   - The handler returns, and another goroutine serves the connection, so that the memory of the
//     request can be freed (gorilla/websocket issue 134).
//
// Text is not validated, and message size is not limited.
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
	readBuffer = 2 << 10 // fits most messages with their headers
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
		return // the upgrader has answered with an error status
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
	// Hides the writer's ReadFrom, which would send fragments of the size of its own buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, message, buffer[:]); err != nil {
		return err
	}
	return w.Close()
}
