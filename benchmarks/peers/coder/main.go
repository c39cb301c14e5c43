// Command coder echoes with github.com/coder/websocket in a net/http handler.
//
//   - A message is read into a pooled buffer and sent by Write as one frame, as the module's
//     package wsjson does. (The module's echo example copies from Reader to Writer, which sends two
//     frames per message and allocates a buffer in io.Copy.)
//   - The context is never cancelled, so calls do not have to wait for one. There is no read limit
//     (SetReadLimit(-1)).
//
// Compression is off and text is not validated: both are defaults.
package main

import (
	"bytes"
	"context"
	"flag"
	"log"
	"net/http"
	"sync"

	"github.com/coder/websocket"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(serve)))
}

func serve(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered with an error status
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for echo(context.Background(), c) == nil {
	}
}

func echo(ctx context.Context, c *websocket.Conn) error {
	kind, message, err := c.Reader(ctx)
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(message); err != nil {
		return err
	}
	return c.Write(ctx, kind, buffer.Bytes())
}
