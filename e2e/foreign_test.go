package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Clients written in other languages verify the echoes themselves; the tests check that their
// scripts succeed.

func TestNodeWS(t *testing.T) {
	node := program(t, "node")
	if _, err := os.Stat("node/node_modules/ws"); err != nil {
		unavailable(t, "no node/node_modules/ws: run npm ci in e2e/node")
	}
	wantSuccess(t, node, "node/echo.js", start(t).url())
}

func TestPythonWebsockets(t *testing.T) {
	// Another python3 on PATH would not find the distribution's packages.
	python := program(t, "/usr/bin/python3")
	if err := exec.Command(python, "-c", "import websockets").Run(); err != nil {
		unavailable(t, "%s has no websockets: install python3-websockets", python)
	}
	wantSuccess(t, python, "python/echo.py", start(t).url())
}

func TestCurl(t *testing.T) {
	curl := program(t, "curl")
	s := start(t)
	plain := "http://" + s.addr + "/"
	for _, c := range []struct {
		name  string
		args  []string
		wants []string
	}{
		{"GET", nil, []string{"HTTP/1.1 426 ", "\r\nUpgrade: websocket\r\n", "\r\nConnection: close\r\n"}},
		{"POST", []string{"--data", "hello"}, []string{"HTTP/1.1 405 ", "\r\nAllow: GET\r\n", "\r\nConnection: close\r\n"}},
		{"HEAD", []string{"--head"}, []string{"HTTP/1.1 405 ", "\r\nAllow: GET\r\n"}},
		{"a browser's GET", []string{"-H", "Accept: text/html"}, []string{"HTTP/1.1 200 ", "\r\nContent-Security-Policy: default-src 'none'; ", "\r\n\r\n<!doctype html>\n", "</html>"}},
		{"a browser's GET, compressed", []string{"-H", "Accept: text/html", "--compressed"}, []string{"HTTP/1.1 200 ", "\r\nContent-Encoding: gzip\r\n", "\r\n\r\n<!doctype html>\n", "</html>"}},
		{"a browser's HEAD", []string{"-H", "Accept: text/html", "--head"}, []string{"HTTP/1.1 200 ", "\r\nContent-Type: text/html; charset=utf-8\r\n"}},
		{"a browser that has the page", []string{"-H", "Accept: text/html", "-H", "If-None-Match: *"}, []string{"HTTP/1.1 304 "}},
		{"HTTP/1.0", []string{"--http1.0"}, []string{"HTTP/1.1 400 "}},
		{"version 12", []string{"-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Key: " + sampleKey,
			"-H", "Sec-WebSocket-Version: 12"}, []string{"HTTP/1.1 426 ", "\r\nSec-WebSocket-Version: 13\r\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// --noproxy: the environment may set a proxy.
			answer := runClient(t, curl, append(c.args, "--silent", "--show-error", "--include", "--noproxy", "*", plain)...)
			for _, want := range c.wants {
				if !strings.Contains(answer, want) {
					t.Errorf("want %q in the response, got\n%s", want, answer)
				}
			}
		})
	}
}

func TestChromium(t *testing.T) {
	chromium := program(t, "chromium")
	s := start(t)
	result := make(chan string, 1)
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("browser")))
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case result <- string(body):
		default: // only the first result counts
		}
	})
	site := httptest.NewServer(mux)
	defer site.Close()

	page := site.URL + "/echo.html?server=" + url.QueryEscape(s.url())
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--disable-dev-shm-usage", "--user-data-dir="+profile(t), page)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = waitTimeout // its child processes keep the output open until they exit
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-result:
		if got != "ok" {
			t.Errorf("got result %q from the page, want ok", got)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the page did not post a result")
	}
	cancel()
	cmd.Wait() // the test has killed it, so its status is of no interest
	if t.Failed() {
		t.Logf("chromium's output:\n%s", output.String())
	}
}

// profile returns a new directory that is removed once chromium's child processes have ended. They
// write to it while they exit, so t.TempDir could not remove it and would fail the test.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsecho-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "chromium's profile is removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// program returns the path of a client program, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		unavailable(t, "%s is not installed", name)
	}
	return path
}

// wantSuccess runs a client script, which prints nothing if it succeeds.
func wantSuccess(t *testing.T, interpreter, script, url string) {
	t.Helper()
	if output := runClient(t, interpreter, filepath.FromSlash(script), url); output != "" {
		t.Errorf("got output of %s, want none:\n%s", script, output)
	}
}

func runClient(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, output)
	}
	return string(output)
}
