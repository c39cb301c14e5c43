// Package console has the browser console: the page that the server shows to browsers that open its
// address. The page is one document without outside resources, since every other request to the
// server is answered as an opening handshake. docs/console.md describes what it can do.
//
// The sources are plain HTML, CSS and JavaScript modules. Page joins them when the server starts.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"strings"
	"sync"
)

//go:embed index.html style.css *.js
var sources embed.FS

// modules are the JavaScript modules, each after those that it imports.
var modules = []string{"format.js", "hex.js", "trips.js", "session.js", "repeat.js", "chart.js", "list.js", "main.js"}

// A page is the console in the form in which the server sends it.
type page struct {
	html, gzip []byte
	policy     string
}

var composed = sync.OnceValue(compose)

// Page returns the page, the same page in the content coding gzip, and the value of its
// Content-Security-Policy.
func Page() (html, gzip []byte, policy string) {
	p := composed()
	return p.html, p.gzip, p.policy
}

func compose() page {
	style, script := lines("style.css"), joined()
	html := strings.Join(lines("index.html"), "\n")
	html = strings.Replace(html, "{{style}}", strings.Join(style, "\n"), 1)
	html = strings.Replace(html, "{{script}}", script, 1)
	// The page may run its own script and style and connect to any WebSocket server. Everything else
	// is forbidden, to its own code as well (CSP Level 3, sections 6.1, 6.3 and 6.4).
	policy := "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(strings.Join(style, "\n")) +
		"; connect-src ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return page{[]byte(html), compressed(html), policy}
}

// joined returns all modules as one, without the statements by which they import each other.
func joined() string {
	var all []string
	for _, name := range modules {
		for _, line := range lines(name) {
			if !strings.HasPrefix(line, "import ") && !strings.HasPrefix(line, "//") {
				all = append(all, strings.TrimPrefix(line, "export "))
			}
		}
	}
	return strings.Join(all, "\n")
}

// lines returns the lines of a source without indentation and empty lines.
func lines(name string) (all []string) {
	source, err := sources.ReadFile(name)
	if err != nil {
		panic(err) // the file is embedded
	}
	for line := range strings.Lines(string(source)) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// hash returns the source expression that allows an inline script or style (CSP Level 3, section
// 2.3.1).
func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func compressed(s string) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = w.Write([]byte(s))                             // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
