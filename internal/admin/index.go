package admin

import (
	"html/template"
	"net/http"
)

var indexPage = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wsecho</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color-scheme: light dark }
td { padding: 0 1.5em .3em 0; vertical-align: top }
</style>
<h1>wsecho</h1>
<p>{{.Version.Number}}, commit {{.Version.Commit}}, {{.Version.Go}}</p>
<table>
{{range .Pages}}<tr><td><a href="{{.Path}}"><code>{{.Path}}</code></a><td>{{.About}}
{{end}}</table>
`))

type link struct{ Path, About string }

// index links to everything there is.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	var links []link
	for _, p := range s.pages() {
		if p.about != "" {
			links = append(links, link{p.path, p.about})
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = indexPage.Execute(w, struct {
		Version Version
		Pages   []link
	}{s.cfg.Version, links})
}
