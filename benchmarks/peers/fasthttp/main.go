// Command fasthttp echoes with github.com/fasthttp/websocket, a port of gorilla/websocket to the
// server of github.com/valyala/fasthttp.
//
// Source: FastHTTPUpgrader in the module's README, and its echo example: ReadMessage, WriteMessage,
// all options at their defaults. Text is not validated, and message size is not limited.
package main

import (
	"flag"
	"log"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

var upgrader = websocket.FastHTTPUpgrader{}

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	server := fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		upgrader.Upgrade(ctx, echo) // if it fails, it answers with an error status
	}}
	log.Fatal(server.ListenAndServe(*addr))
}

func echo(c *websocket.Conn) {
	defer c.Close()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		if err := c.WriteMessage(kind, message); err != nil {
			return
		}
	}
}
