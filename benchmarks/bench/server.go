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

// server is an echo server to be measured.
type server struct {
	name      string
	class     class
	validates bool     // whether it checks that text messages are UTF-8
	modules   []string // Go modules whose versions are reported
	how       string   // short description
}

// class is the kind of architecture of a server.
type class string

const (
	classOurs      class = "wsecho"
	classFloor     class = "floor"
	classLoop      class = "event loop"
	classGoroutine class = "goroutine per connection"
	classNode      class = "node"
)

// Names of servers that targets and tables refer to.
const (
	ours    = "wsecho"
	control = "wsecho-again"
	floor   = "floor"
	gnet    = "gnet"
	nodeWS  = "ws"
)

// readBuffer is the read buffer, in bytes, of servers that let it be chosen. It is as large as
// wsecho's (pool.BufferSize).
const readBuffer = 256 << 10

var servers = []server{
	{ours, classOurs, true, nil, "the server of this repository, `-workers 1`"},
	{control, classOurs, true, nil, "the same program again, to measure the noise"},
	{floor, classFloor, false, nil, "a minimal C program: epoll, `recv` and `send`, no checks"},
	{gnet, classLoop, false, []string{"github.com/panjf2000/gnet/v2", "github.com/gobwas/ws"}, "gnet with a codec from gobwas/ws, echoing in gnet's read buffer"},
	{"nbio", classLoop, true, []string{"github.com/lesismal/nbio"}, "non-blocking, its own pool of goroutines"},
	{"gobwas-epoll", classLoop, true, []string{"github.com/gobwas/ws"}, "net/http upgrade, one epoll loop, wsutil helpers"},
	{"gws", classGoroutine, false, []string{"github.com/lxzan/gws"}, "gws's own HTTP server"},
	{"gobwas", classGoroutine, false, []string{"github.com/gobwas/ws"}, "zero-copy upgrade, wsutil's reader and pooled writers"},
	{"gorilla", classGoroutine, false, []string{"github.com/gorilla/websocket"}, "net/http, `ReadMessage`, `WriteMessage`"},
	{"gorilla-lean", classGoroutine, false, []string{"github.com/gorilla/websocket"}, "pooled buffers, reader to writer"},
	{"coder", classGoroutine, false, []string{"github.com/coder/websocket"}, "net/http, pooled buffers"},
	{"fasthttp", classGoroutine, false, []string{"github.com/fasthttp/websocket", "github.com/valyala/fasthttp"}, "gorilla/websocket ported to fasthttp"},
	{nodeWS, classNode, true, nil, "npm package ws with bufferutil"},
}

func serverNamed(name string) (server, bool) {
	for _, s := range servers {
		if s.name == name {
			return s, true
		}
	}
	return server{}, false
}

// buildDirs holds the directories of the sources and binaries.
type buildDirs struct {
	root  string // of the repository
	own   string // binaries of wsecho and wsload
	peers string // binaries of the peers
}

func (d buildDirs) wsecho() string { return filepath.Join(d.own, "wsecho") }

func (d buildDirs) wsload() string { return filepath.Join(d.own, "wsload") }

func (d buildDirs) peerBinary(name string) string { return filepath.Join(d.peers, name) }

func (d buildDirs) peerSource(name string) string {
	return filepath.Join(d.root, "benchmarks", "peers", name)
}

// command returns the command line that starts the server on addr.
func (s server) command(dirs buildDirs, addr string) []string {
	switch s.name {
	case ours, control:
		return []string{dirs.wsecho(), "-listen", addr, "-admin", "127.0.0.1:0", "-workers", "1"}
	case floor, gnet:
		return []string{dirs.peerBinary(s.name), "-addr", addr, "-buffer", strconv.Itoa(readBuffer)}
	case nodeWS:
		return []string{"node", filepath.Join(dirs.peerSource(nodeWS), "server.js"), "-addr", addr}
	}
	return []string{dirs.peerBinary(s.name), "-addr", addr}
}

// errAbsent is returned if this machine lacks a program that is needed to build a server.
var errAbsent = errors.New("not built")

// build builds the server's program. An error that wraps errAbsent says what this machine lacks.
func (s server) build(ctx context.Context, dirs buildDirs) error {
	needs := func(program string) error {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: program %s is not installed", errAbsent, program)
		}
		return nil
	}
	dir := dirs.peerSource(s.name)
	switch s.name {
	case ours, control:
		return runTool(ctx, dirs.root, "make", "--silent", "build")
	case floor:
		if err := needs("gcc"); err != nil {
			return err
		}
		return runTool(ctx, dir, "gcc", append(strings.Fields(floorFlags), "-o", dirs.peerBinary(floor), "floor.c")...)
	case nodeWS:
		for _, program := range []string{"node", "npm"} {
			if err := needs(program); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "node_modules", "ws")); err == nil {
			return nil
		}
		if err := runTool(ctx, dir, "npm", "ci", "--no-audit", "--no-fund", "--silent"); err != nil {
			return fmt.Errorf("%w: %w", errAbsent, err)
		}
		return nil
	case gnet: // "Enable poll_opt mode to boost performance" (gnet.host, best practices)
		return runTool(ctx, dir, "go", "build", "-trimpath", "-tags", "poll_opt", "-o", dirs.peerBinary(s.name), ".")
	}
	return runTool(ctx, dir, "go", "build", "-trimpath", "-o", dirs.peerBinary(s.name), ".")
}

const floorFlags = "-O3 -march=native -std=gnu11 -Wall -Wextra -Werror"

func runTool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// version returns the versions of the server's modules or packages; "" for wsecho, whose version is
// the commit of the results.
func (s server) version(dirs buildDirs) (string, error) {
	switch s.name {
	case ours, control:
		return "", nil
	case floor:
		return "gcc " + floorFlags, nil
	case nodeWS:
		return lockedVersions(filepath.Join(dirs.peerSource(nodeWS), "package-lock.json"))
	}
	info, err := buildinfo.ReadFile(dirs.peerBinary(s.name))
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

// lockedVersions returns the versions of ws and bufferutil in package-lock.json.
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
