// Command nbio echoes with github.com/lesismal/nbio, non-blocking: all connections on its epoll pollers, messages handled by
// its pool of goroutines.
//
// Source: the author's own lesismal/go-websocket-benchmark (frameworks/nbio_nonblocking), whose settings these are: a memory
// pool whose buffers hold a message of 1 KiB with what belongs to it, payloads given back to it after each message,
// and no keepalive deadline. It is also the mode in which the README shows a million connections. The README advises against nbio
// for ordinary numbers of connections, and has a mode (IOModMixed) that then serves them by a goroutine each.
//
// Text is validated, which is its default. Messages may have 4 MiB, and replies longer than 32 KiB are sent in fragments. Empty
// messages are not echoed: nbio v1.6.9 does not tell its handler of them.
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
				return // the peer has been told
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
