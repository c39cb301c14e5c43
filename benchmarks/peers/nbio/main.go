// Command nbio echoes with github.com/lesismal/nbio in non-blocking mode: nbio's epoll pollers
// serve all connections, and its pool of goroutines handles the messages.
//
// Source: lesismal/go-websocket-benchmark (frameworks/nbio_nonblocking), by the author of nbio. The
// settings are the same: a memory pool whose buffers hold a message of 1 KiB with its overhead,
// payloads returned to the pool after each message, and no keepalive deadline. The module's README
// also uses this mode to show a million connections. It advises against nbio for ordinary
// connection counts, and offers a mode (IOModMixed) that then uses one goroutine per connection.
//
// Text is validated, which is the default. A message may have at most 4 MiB, and replies longer
// than 32 KiB are sent in fragments. Empty messages are not echoed: nbio v1.6.9 does not pass them
// to the handler.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/mempool"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	flag.Parse()
	logging.SetLevel(logging.LevelError)
	mempool.DefaultMemPool = mempool.New(1024+1024, 1<<30)

	upgrader := websocket.NewUpgrader()
	upgrader.KeepaliveTime = 0
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, data []byte) {
		c.WriteMessage(kind, data)
	})
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{*addr},
		IOMod:                   nbhttp.IOModNonBlocking,
		ReleaseWebsocketPayload: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return // the upgrader has answered with an error status
			}
			c.SetReadDeadline(time.Time{})
		}),
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
}
