package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
)

// client is the common interface of the client libraries.
type client interface {
	send(op byte, message []byte) error
	// sendPinging sends the message in pieces, and a ping after each but the last.
	sendPinging(op byte, pieces [][]byte) error
	receive() (op byte, message []byte, err error)
	pongs() []string
	// close runs the closing handshake and returns the server's code and reason. Code 0 sends a
	// close frame without a code, whose answer is reported as 1005.
	close(code int, reason string) (int, string, error)
}

// libraries lists the client libraries. They dial over a connection of the test.
var libraries = []struct {
	name  string
	dial  func(url string, conn net.Conn) (client, error)
	codes func(code int) bool // reports whether the library supports the close code
}{
	{"gorilla", dialGorilla, func(code int) bool { return code != 1014 }}, // 1014 is unknown to it
	{"coder", dialCoder, func(code int) bool { return true }},
	{"gobwas", dialGobwas, func(code int) bool { return true }},
}

// unclosable is a TCP connection that a library cannot close, so that the test can check that the
// server does.
type unclosable struct{ net.Conn }

func (unclosable) Close() error { return nil }

// withLibrary opens a WebSocket with a library and calls talk. It then closes the WebSocket with
// code and reason, and waits for the server to end TCP.
func withLibrary(t *testing.T, s *server, dial func(string, net.Conn) (client, error), code int, reason string, talk func(c client)) {
	t.Helper()
	tcp, err := connect(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	c, err := dial(s.url(), unclosable{tcp.Conn})
	if err != nil {
		t.Fatal(err)
	}
	talk(c)
	gotCode, gotReason, err := c.close(code, reason)
	if err != nil {
		t.Fatalf("close %d: %v", code, err)
	}
	if code == 0 {
		code = 1005
	}
	if gotCode != code || gotReason != reason {
		t.Fatalf("closed with %d %q, got the answer %d %q", code, reason, gotCode, gotReason)
	}
	if err := tcp.expectEOF(); err != nil {
		t.Fatal(err)
	}
}

func TestGoClientsEcho(t *testing.T) {
	large := 64 << 20
	if raceEnabled || testing.Short() {
		large = 8 << 20
	}
	sizes := []int{0, 1, 125, 126, 127, 65535, 65536, 65537, 1 << 20, large}
	s := start(t)
	for op, kind := range map[byte]string{opText: "text", opBinary: "binary"} {
		for _, size := range sizes {
			message := random(op, size)
			for _, library := range libraries {
				t.Run(fmt.Sprintf("%s/%s of %d", library.name, kind, size), func(t *testing.T) {
					withLibrary(t, s, library.dial, 1000, "", func(c client) {
						wantEcho(t, c, op, message, func() error { return c.send(op, message) })
					})
				})
			}
		}
	}
}

// wantEcho sends a message and checks its echo. It sends in a goroutine, because the server stops
// reading from a peer that does not read.
func wantEcho(t *testing.T, c client, op byte, message []byte, send func() error) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- send() }()
	gotOp, got, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	if gotOp != op || !bytes.Equal(got, message) {
		t.Fatalf("got %v, want %v%s", frame{op: gotOp, payload: got}, frame{op: op, payload: message}, firstDifference(got, message))
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

var seedFlag = flag.Uint64("seed", 0, "`seed` of the random fragments; 0: a new one")

func TestGoClientsFragmentAndPing(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	s := start(t)
	for _, library := range libraries {
		t.Run(library.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			withLibrary(t, s, library.dial, 1000, "", func(c client) {
				var wanted []string
				for range 10 {
					op := []byte{opText, opBinary}[rnd.IntN(2)]
					message := random(op, rnd.IntN(1<<20))
					pieces := cut(rnd, message)
					wantEcho(t, c, op, message, func() error { return c.sendPinging(op, pieces) })
					wanted = append(wanted, pingsFor(pieces)...)
				}
				// The echo of a last message arrives after all pongs.
				wantEcho(t, c, opText, []byte("done"), func() error { return c.send(opText, []byte("done")) })
				if got := c.pongs(); !slices.Equal(got, wanted) {
					t.Errorf("got pongs %q, want %q", got, wanted)
				}
			})
		})
	}
}

// cut splits a message into up to 12 random pieces, some of them empty.
func cut(rnd *rand.Rand, message []byte) [][]byte {
	var pieces [][]byte
	for n := rnd.IntN(12); n > 0; n-- {
		at := rnd.IntN(len(message) + 1)
		pieces, message = append(pieces, message[:at]), message[at:]
	}
	return append(pieces, message)
}

// pingsFor returns the payloads of the pings that are sent between the pieces.
func pingsFor(pieces [][]byte) []string {
	var pings []string
	for i := range len(pieces) - 1 {
		pings = append(pings, fmt.Sprint("after piece ", i))
	}
	return pings
}

func TestGoClientsClose(t *testing.T) {
	s := start(t)
	for _, library := range libraries {
		for _, code := range append(slices.Clone(validCloseCodes), 0) {
			if !library.codes(code) {
				continue
			}
			for name, reason := range map[string]string{"no reason": "", "a reason": "κόσμε", "the longest reason": strings.Repeat("*", 123)} {
				if code == 0 && reason != "" {
					continue // a reason needs a code
				}
				t.Run(fmt.Sprintf("%s/%d/%s", library.name, code, name), func(t *testing.T) {
					withLibrary(t, s, library.dial, code, reason, func(client) {})
				})
			}
		}
	}
}

// --- gorilla

type gorillaClient struct {
	*gorilla.Conn
	ponged []string
}

func dialGorilla(url string, conn net.Conn) (client, error) {
	dialer := gorilla.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		// gorilla ends a fragment when its buffer is full.
		WriteBufferSize: 512 + rand.IntN(8192),
	}
	c, _, err := dialer.Dial(url, nil)
	if err != nil {
		return nil, err
	}
	g := &gorillaClient{Conn: c}
	c.SetPongHandler(func(payload string) error { g.ponged = append(g.ponged, payload); return nil })
	return g, nil
}

func (g *gorillaClient) send(op byte, message []byte) error {
	return g.WriteMessage(int(op), message)
}

func (g *gorillaClient) sendPinging(op byte, pieces [][]byte) error {
	w, err := g.NextWriter(int(op))
	if err != nil {
		return err
	}
	pings := pingsFor(pieces)
	for i, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		if i < len(pings) {
			if err := g.WriteControl(gorilla.PingMessage, []byte(pings[i]), time.Now().Add(waitTimeout)); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

func (g *gorillaClient) receive() (byte, []byte, error) {
	g.SetReadDeadline(time.Now().Add(waitTimeout))
	op, message, err := g.ReadMessage()
	return byte(op), message, err
}

func (g *gorillaClient) pongs() []string { return g.ponged }

func (g *gorillaClient) close(code int, reason string) (int, string, error) {
	body := []byte{}
	if code != 0 {
		body = gorilla.FormatCloseMessage(code, reason)
	}
	if err := g.WriteControl(gorilla.CloseMessage, body, time.Now().Add(waitTimeout)); err != nil {
		return 0, "", err
	}
	_, _, err := g.receive()
	var answer *gorilla.CloseError
	if errors.As(err, &answer) {
		return answer.Code, answer.Text, nil
	}
	return 0, "", err
}

// --- coder

type coderClient struct {
	*coder.Conn
	answered []string // answered pings; the library chooses the payload on the wire
}

func dialCoder(url string, conn net.Conn) (client, error) {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	c, _, err := coder.Dial(ctx, url, &coder.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(-1)
	return &coderClient{Conn: c}, nil
}

func coderType(op byte) coder.MessageType {
	if op == opText {
		return coder.MessageText
	}
	return coder.MessageBinary
}

func (c *coderClient) send(op byte, message []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	return c.Write(ctx, coderType(op), message)
}

// sendPinging sends one fragment per Write. Ping waits for its pong, in the middle of the message.
func (c *coderClient) sendPinging(op byte, pieces [][]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	w, err := c.Writer(ctx, coderType(op))
	if err != nil {
		return err
	}
	pings := pingsFor(pieces)
	for i, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		if i < len(pings) {
			if err := c.Ping(ctx); err != nil {
				return err
			}
			c.answered = append(c.answered, pings[i])
		}
	}
	return w.Close()
}

func (c *coderClient) receive() (byte, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	kind, message, err := c.Read(ctx)
	if kind == coder.MessageText {
		return opText, message, err
	}
	return opBinary, message, err
}

func (c *coderClient) pongs() []string { return c.answered }

// close reads while the library closes, since only a reader gets the server's code. Close would
// read too, so a ping goes first: once it is answered, the goroutine here is the reader.
func (c *coderClient) close(code int, reason string) (int, string, error) {
	if code == 0 {
		code = int(coder.StatusNoStatusRcvd) // sent as a close frame without a code
	}
	received := make(chan error, 1)
	go func() {
		_, _, err := c.receive()
		received <- err
	}()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		return 0, "", err
	}
	c.Close(coder.StatusCode(code), reason) // the reader gets the same error
	err := <-received
	var answer coder.CloseError
	if errors.As(err, &answer) {
		return int(answer.Code), answer.Reason, nil
	}
	return 0, "", err
}

// --- gobwas

type gobwasClient struct {
	net.Conn
	reader wsutil.Reader
	ponged []string
}

func dialGobwas(url string, conn net.Conn) (client, error) {
	dialer := ws.Dialer{NetDial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	c, buffered, _, err := dialer.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	if buffered != nil {
		return nil, errors.New("the server sent data before the first frame of the client")
	}
	g := &gobwasClient{Conn: c}
	g.reader = wsutil.Reader{Source: c, State: ws.StateClientSide, CheckUTF8: true, OnIntermediate: g.control}
	return g, nil
}

func (g *gobwasClient) send(op byte, message []byte) error {
	return wsutil.WriteClientMessage(g.Conn, ws.OpCode(op), message)
}

func (g *gobwasClient) sendPinging(op byte, pieces [][]byte) error {
	w := wsutil.NewWriter(g.Conn, ws.StateClientSide, ws.OpCode(op))
	pings := pingsFor(pieces)
	for i, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		if i < len(pings) {
			if err := w.FlushFragment(); err != nil {
				return err
			}
			if err := wsutil.WriteClientMessage(g.Conn, ws.OpPing, []byte(pings[i])); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

func (g *gobwasClient) receive() (byte, []byte, error) {
	g.SetReadDeadline(time.Now().Add(waitTimeout))
	for {
		header, err := g.reader.NextFrame()
		if err != nil {
			return 0, nil, err
		}
		if header.OpCode.IsControl() {
			if err := g.control(header, &g.reader); err != nil {
				return 0, nil, err
			}
			continue
		}
		message, err := io.ReadAll(&g.reader)
		return byte(header.OpCode), message, err
	}
}

func (g *gobwasClient) control(header ws.Header, r io.Reader) error {
	payload, err := io.ReadAll(r)
	switch {
	case err != nil:
		return err
	case header.OpCode == ws.OpPong:
		g.ponged = append(g.ponged, string(payload))
		return nil
	case header.OpCode == ws.OpClose && len(payload) == 0:
		return wsutil.ClosedError{Code: ws.StatusNoStatusRcvd}
	case header.OpCode == ws.OpClose && len(payload) >= 2:
		return wsutil.ClosedError{Code: ws.StatusCode(binary.BigEndian.Uint16(payload)), Reason: string(payload[2:])}
	default:
		return fmt.Errorf("unexpected %v %q", header, payload)
	}
}

func (g *gobwasClient) pongs() []string { return g.ponged }

func (g *gobwasClient) close(code int, reason string) (int, string, error) {
	var body []byte
	if code != 0 {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	}
	if err := ws.WriteFrame(g.Conn, ws.MaskFrameInPlace(ws.NewCloseFrame(body))); err != nil {
		return 0, "", err
	}
	_, _, err := g.receive()
	var answer wsutil.ClosedError
	if errors.As(err, &answer) {
		return int(answer.Code), answer.Reason, nil
	}
	return 0, "", err
}
