package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// server is a program that echoes.
type server struct {
	name      string
	class     class
	validates bool     // that text is UTF-8
	modules   []string // whose versions are told
	how       string   // in a few words
}

// class is how a server is built.
type class string

const (
	classOurs      class = "wsecho"
	classFloor     class = "floor"
	classLoop      class = "event loop"
	classGoroutine class = "goroutine a connection"
	classNode      class = "node"
)

// The names that targets and tables know.
const (
	ours    = "wsecho"
	control = "wsecho-again"
	floor   = "floor"
	gnet    = "gnet"
	nodeWS  = "ws"
)

// readBuffer is the buffer of the servers whose buffer can be chosen: wsecho's own (pool.BufferSize).
const readBuffer = 256 << 10

var servers = []server{
	{ours, classOurs, true, nil, "the server of this repository, `-workers 1`"},
	{control, classOurs, true, nil, "the same once more: what differs is noise"},
	{floor, classFloor, false, nil, "the least in C: epoll, `recv` and `send`, no checks"},
	{gnet, classLoop, false, []string{"github.com/panjf2000/gnet/v2", "github.com/gobwas/ws"}, "gnet with a codec of gobwas/ws, echoing in its read buffer"},
	{"nbio", classLoop, true, []string{"github.com/lesismal/nbio"}, "non-blocking, its own pool of goroutines"},
	{"gobwas-epoll", classLoop, true, []string{"github.com/gobwas/ws"}, "net/http upgrade, one epoll loop, wsutil's helpers"},
	{"gws", classGoroutine, false, []string{"github.com/lxzan/gws"}, "its own server"},
	{"gobwas", classGoroutine, false, []string{"github.com/gobwas/ws"}, "zero-copy upgrade, wsutil's reader and pooled writers"},
	{"gorilla", classGoroutine, false, []string{"github.com/gorilla/websocket"}, "net/http, `ReadMessage`, `WriteMessage`"},
	{"gorilla-lean", classGoroutine, false, []string{"github.com/gorilla/websocket"}, "pooled buffers, reader to writer"},
	{"coder", classGoroutine, false, []string{"github.com/coder/websocket"}, "net/http, pooled buffers"},
	{"fasthttp", classGoroutine, false, []string{"github.com/fasthttp/websocket", "github.com/valyala/fasthttp"}, "gorilla's on fasthttp"},
	{nodeWS, classNode, true, nil, "npm's ws with bufferutil"},
}

func serverNamed(name string) (server, bool) {
	for _, s := range servers {
		if s.name == name {
			return s, true
		}
	}
	return server{}, false
}

// workshop is where programs are built, and which they are.
type workshop struct {
	root string // of the repository
	ours string // where wsecho and wsload are
	bin  string // for the peers' binaries
}

func (w workshop) path(name string) string { return filepath.Join(w.bin, name) }

func (w workshop) wsecho() string { return filepath.Join(w.ours, "wsecho") }

func (w workshop) wsload() string { return filepath.Join(w.ours, "wsload") }

func (w workshop) peer(name string) string {
	return filepath.Join(w.root, "benchmarks", "peers", name)
}

// command is a server's command line, to serve on an address.
func (s server) command(w workshop, addr string) []string {
	switch s.name {
	case ours, control:
		return []string{w.wsecho(), "-listen", addr, "-admin", "127.0.0.1:0", "-workers", "1"}
	case floor, gnet:
		return []string{w.path(s.name), "-addr", addr, "-buffer", strconv.Itoa(readBuffer)}
	case nodeWS:
		return []string{"node", filepath.Join(w.peer(nodeWS), "server.js"), "-addr", addr}
	}
	return []string{w.path(s.name), "-addr", addr}
}

// errAbsent says that this machine lacks what a server needs.
var errAbsent = errors.New("not built")

// build makes the server's program. An error that is errAbsent says why this machine cannot.
func (s server) build(ctx context.Context, w workshop) error {
	needs := func(program string) error {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: no %s here", errAbsent, program)
		}
		return nil
	}
	dir := w.peer(s.name)
	switch s.name {
	case ours, control:
		return tool(ctx, w.root, "make", "--silent", "build")
	case floor:
		if err := needs("gcc"); err != nil {
			return err
		}
		return tool(ctx, dir, "gcc", append(strings.Fields(floorFlags), "-o", w.path(floor), "floor.c")...)
	case nodeWS:
		for _, program := range []string{"node", "npm"} {
			if err := needs(program); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "node_modules", "ws")); err == nil {
			return nil
		}
		if err := tool(ctx, dir, "npm", "ci", "--no-audit", "--no-fund", "--silent"); err != nil {
			return fmt.Errorf("%w: %w", errAbsent, err)
		}
		return nil
	case gnet: // "Enable poll_opt mode to boost performance" (gnet.host, best practices)
		return tool(ctx, dir, "go", "build", "-trimpath", "-tags", "poll_opt", "-o", w.path(s.name), ".")
	}
	return tool(ctx, dir, "go", "build", "-trimpath", "-o", w.path(s.name), ".")
}

const floorFlags = "-O3 -march=native -std=gnu11 -Wall -Wextra -Werror"

func tool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// version tells the versions of what the server is made of.
func (s server) version(w workshop) (string, error) {
	switch s.name {
	case ours, control:
		return "", nil // the results' own commit
	case floor:
		return "gcc " + floorFlags, nil
	case nodeWS:
		return lockedVersions(filepath.Join(w.peer(nodeWS), "package-lock.json"))
	}
	info, err := buildinfo.ReadFile(w.path(s.name))
	if err != nil {
		return "", err
	}
	var parts []string
	for _, module := range s.modules {
		for _, dep := range info.Deps {
			if dep.Path == module {
				parts = append(parts, module+" "+dep.Version)
			}
		}
	}
	return strings.Join(parts, ", "), nil
}

// lockedVersions are those of package-lock.json.
func lockedVersions(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return "ws " + lock.Packages["node_modules/ws"].Version + ", bufferutil " + lock.Packages["node_modules/bufferutil"].Version, nil
}
