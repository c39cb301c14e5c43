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

// index links to everything there is. It is not made with html/template: a program with that in it keeps all methods of all
// its types (the linker cannot know which are called by name), and this one would be half as large again.
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
