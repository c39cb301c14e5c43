// Command fasthttp echoes with github.com/fasthttp/websocket, which is gorilla/websocket on github.com/valyala/fasthttp's server.
//
// Source: the README's FastHTTPUpgrader and the module's echo example: ReadMessage, WriteMessage, all options at their
// defaults. Text is not validated, and messages have no limit.
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
		upgrader.Upgrade(ctx, echo) // which has told the peer if it fails
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
