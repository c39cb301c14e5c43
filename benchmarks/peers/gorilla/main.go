// Command gorilla echoes with github.com/gorilla/websocket like the module's echo example, from
// which most programs start: Upgrade in a net/http handler, ReadMessage, WriteMessage, all options
// at their defaults.
//
// Source: examples/echo/server.go of the module. Text is not validated (the module leaves that to
// the application: "Text and Binary Messages" in its documentation), and message size is not
// limited.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{}

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(echo)))
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered with an error status
	}
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
