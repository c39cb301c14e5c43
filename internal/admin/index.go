package admin

import (
	"fmt"
	"html"
	"net/http"
	"strings"
)

const indexHead = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wsecho</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color-scheme: light dark }
td { padding: 0 1.5em .3em 0; vertical-align: top }
</style>
<h1>wsecho</h1>
`

// index writes a page with links to all pages. It does not use html/template: that calls methods by
// name, so the linker would have to keep all methods of all types, and the program would be half as
// large again.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	var page strings.Builder
	v := s.cfg.Version
	fmt.Fprintf(&page, "%s<p>%s\n<table>\n", indexHead, html.EscapeString(fmt.Sprintf("%s, commit %s, %s", v.Number, v.Commit, v.Go)))
	for _, p := range s.pages {
		if p.about != "" {
			fmt.Fprintf(&page, "<tr><td><a href=\"%s\"><code>%[1]s</code></a><td>%s\n", p.path, html.EscapeString(p.about))
		}
	}
	page.WriteString("</table>\n")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(page.String()))
}
