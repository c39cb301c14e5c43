// Command gws echoes with github.com/lxzan/gws and its own server, which serves without net/http.
//
// Source: examples/echo and "Quick Start" in the module's README; the same handler and server stand for gws in
// lesismal/go-websocket-benchmark (frameworks/gws). Options are at their defaults: no parallel handling of a connection's messages
// (they would come back in any order), text not validated (CheckUtf8Enabled), no compression, 16 MiB a message.
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
	log.SetOutput(io.Discard) // gws tells it of every connection that ends
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
