// Package docs holds the documents. Its tests compare the documents with the code.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTourNamesExist checks that every name in the tour is declared in the file that it links to.
func TestTourNamesExist(t *testing.T) {
	page, err := os.ReadFile("tour.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile("\\[`([^`]+)`\\]\\(([^)]+\\.go)\\)").FindAllStringSubmatch(string(page), -1)
	if len(links) < 20 {
		t.Fatalf("the tour has %d links to names, want at least 20: the pattern no longer fits the page", len(links))
	}
	for _, link := range links {
		name, file := link[1], link[2]
		if names, err := declaredIn(file); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !names[name] {
			t.Errorf("%s does not declare %s", file, name)
		}
	}
}

// declaredIn returns the names that a Go file declares at its top level. Methods are Type.Method.
func declaredIn(path string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(path), nil, 0)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			names[name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names[n.Name] = true
					}
				}
			}
		}
	}
	return names, nil
}

func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// TestLinksLeadSomewhere checks that every link between documents leads to a file, and to a heading
// of that file if the link has an anchor.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			file, anchor := m[1], strings.TrimPrefix(m[2], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && !headings(t, target)[anchor] {
				t.Errorf("%s links to %s, which has no heading #%s", page, target, anchor)
			}
		}
	}
}

// headings returns the anchors of a document's headings, as GitHub makes them.
func headings(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(string(text), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(plain, " ", "-")] = true
	}
	return anchors
}

// TestDecisionsAreListed checks that DESIGN.md lists every decision once, with a link to it.
func TestDecisionsAreListed(t *testing.T) {
	overview, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| \[(\d+)\]\((\S+)#decision-(\d+)-`).FindAllStringSubmatch(string(overview), -1) {
		if m[1] != m[3] || listed[m[1]] {
			t.Errorf("decision %s in the list: links to decision %s, or is listed twice", m[1], m[3])
		}
		listed[m[1]] = true
	}
	pages, err := filepath.Glob("design/*.md")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^## Decision (\d+): `).FindAllStringSubmatch(string(text), -1) {
			total++
			if !listed[m[1]] {
				t.Errorf("DESIGN.md does not list decision %s of %s", m[1], page)
			}
		}
	}
	if total != len(listed) {
		t.Errorf("design/ has %d decisions, DESIGN.md lists %d", total, len(listed))
	}
}
