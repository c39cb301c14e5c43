// Command gws echoes with github.com/lxzan/gws and the module's own server, which does not use
// net/http.
//
// Source: examples/echo and "Quick Start" in the module's README; lesismal/go-websocket-benchmark
// (frameworks/gws) uses the same handler and server. Options are at their defaults: the messages of
// a connection are not handled in parallel (replies could then change their order), text is not
// validated (CheckUtf8Enabled), there is no compression, and a message may have at most 16 MiB.
package main

import (
	"flag"
	"io"
	"log"
	"net"

	"github.com/lxzan/gws"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	log.SetOutput(io.Discard) // gws logs the end of every connection
	server := gws.NewServer(handler{}, nil)
	server.OnError = func(conn net.Conn, _ error) {
		if conn != nil {
			conn.Close()
		}
	}
	if err := server.Run(*addr); err != nil {
		panic(err)
	}
}

type handler struct{ gws.BuiltinEventHandler }

func (handler) OnPing(c *gws.Conn, payload []byte) { c.WritePong(payload) }

func (handler) OnMessage(c *gws.Conn, message *gws.Message) {
	defer message.Close()
	c.WriteMessage(message.Opcode, message.Bytes())
}
