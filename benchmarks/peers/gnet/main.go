// Command gnet echoes with github.com/panjf2000/gnet/v2 and a codec that uses the upgrader, headers
// and cipher of github.com/gobwas/ws.
//
//   - It is built with the tag poll_opt ("Enable poll_opt mode to boost performance" in gnet's best
//     practices).
//   - It has one event loop, since it has one core. The loop is level-triggered, gnet's default;
//     the read buffer is as large as wsecho's.
//   - Data is echoed in gnet's read buffer: it is unmasked in place, each new header is written
//     directly before its payload, and one Write sends it all. A partly received frame is echoed in
//     part. Data is copied only if the peer does not accept it at once, or if a header is split
//     between two reads.
//   - The request is collected completely before gobwas/ws reads it, so a peer cannot block the
//     loop. (gnet's example, gnet-io/gnet-examples websocket, either blocks in gobwas/ws or copies
//     each message.)
//
// Text is not validated, and no protocol rule is checked except by the upgrader: gobwas/ws leaves
// that to the application.
package main

import (
	"bytes"
	"flag"
	"io"
	"log"

	"github.com/gobwas/ws"
	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
)

const maxRequest = 8 << 10 // bytes

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "`address` to serve on")
	buffer := flag.Int("buffer", 256<<10, "`bytes` of gnet's read buffer")
	flag.Parse()
	log.Fatal(gnet.Run(&server{}, "tcp://"+*addr, gnet.WithReuseAddr(true), gnet.WithNumEventLoop(1),
		gnet.WithReadBufferCap(*buffer), gnet.WithLogLevel(logging.ErrorLevel)))
}

// server is used by a single event loop.
type server struct {
	gnet.BuiltinEventEngine
	in     bytes.Reader // for ws.ReadHeaderBuffer
	out    bytes.Buffer // for ws.WriteHeaderBuffer
	header [ws.MaxHeaderSize]byte
}

// conn is the state of a connection between two events.
type conn struct {
	opened bool
	frame  ws.Header
	left   int64 // bytes of the frame's payload not yet received
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(conn))
	return nil, gnet.None
}

func (s *server) OnTraffic(g gnet.Conn) gnet.Action {
	c := g.Context().(*conn)
	if !c.opened {
		if action := upgrade(c, g); action != gnet.None || !c.opened || g.InboundBuffered() == 0 {
			return action
		}
	}
	p, err := g.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	from, to, used, closed, err := s.echo(c, p)
	if err != nil {
		return gnet.Close
	}
	if to > from {
		if _, err := g.Write(p[from:to]); err != nil {
			return gnet.Close
		}
	}
	if used > 0 { // Discard(0) would discard everything
		g.Discard(used)
	}
	if closed {
		return gnet.Close
	}
	return gnet.None
}

// echo replaces the frames in p by their replies, which are then p[from:to]. It returns the number
// of bytes of p that it used, and whether a complete close frame was among them.
func (s *server) echo(c *conn, p []byte) (from, to, used int, closed bool, err error) {
	started := false
	for used < len(p) && !closed {
		if c.left == 0 {
			s.in.Reset(p[used:])
			frame, err := ws.ReadHeaderBuffer(&s.in, s.header[:])
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break // the header is incomplete
			}
			if err != nil || !frame.Masked {
				return 0, 0, 0, false, ws.ErrProtocolMaskRequired
			}
			c.frame, c.left = frame, frame.Length
			payload := len(p) - s.in.Len()
			reply := frame
			reply.Masked, reply.Mask = false, [4]byte{}
			if frame.OpCode == ws.OpPing {
				reply.OpCode = ws.OpPong
			}
			if !started {
				to = payload - ws.HeaderSize(reply)
				from, started = to, true
			}
			s.out.Reset()
			ws.WriteHeaderBuffer(&s.out, reply, s.header[:])
			to += copy(p[to:], s.out.Bytes())
			used = payload
		} else if !started {
			from, to, started = used, used, true
		}
		n := int(min(c.left, int64(len(p)-used)))
		payload := p[used : used+n]
		ws.Cipher(payload, c.frame.Mask, int((c.frame.Length-c.left)&3))
		if to == used {
			to += n
		} else {
			to += copy(p[to:], payload)
		}
		used += n
		c.left -= int64(n)
		closed = c.frame.OpCode == ws.OpClose && c.left == 0
	}
	return from, to, used, closed, nil
}

// upgrade answers the request if it is complete.
func upgrade(c *conn, g gnet.Conn) gnet.Action {
	p, err := g.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(p) > maxRequest:
		return gnet.Close
	case end < 0:
		return gnet.None
	}
	request := struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(p[:end+4]), g}
	if _, err := ws.Upgrade(request); err != nil {
		return gnet.Close // Upgrade has answered with an error status
	}
	g.Discard(end + 4)
	c.opened = true
	return gnet.None
}
