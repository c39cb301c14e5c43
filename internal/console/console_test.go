package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPageIsSmall(t *testing.T) {
	html, zipped, policy := Page()
	t.Logf("%d bytes, %d in gzip, policy of %d", len(html), len(zipped), len(policy))
	const limit = 30_000
	if len(html) > limit || len(zipped) > limit {
		t.Errorf("the page has %d bytes, %d in gzip, want at most %d", len(html), len(zipped), limit)
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, html) {
		t.Errorf("the compressed page is not the page: %v", err)
	}
}

func TestPageNeedsNothingElse(t *testing.T) {
	html, _, policy := Page()
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; ") || strings.ContainsAny(policy, "\r\n") {
		t.Errorf("the policy is %q", policy)
	}
	if bytes.Contains(html, []byte("{{")) {
		t.Error("a placeholder remains")
	}
	for _, pattern := range []string{`(?i)\ssrc=`, `(?i)<link[^>]*href="[^d]`, `(?i)@import`, `(?i)url\(`, `(?i)\sstyle="`, `(?i)\son\w+="`, `https?://[a-vx-z0-9]`, `(?m)^import `, `(?m)^export `} {
		if found := regexp.MustCompile(pattern).Find(html); found != nil {
			t.Errorf("the page contains %q", found)
		}
	}
	// Each would end the script, or change where it ends, in the middle of a string.
	for _, tag := range []string{"<script", "</script", "<style", "</style", "<!--"} {
		if n := bytes.Count(bytes.ToLower(html), []byte(tag)); n > 1 || n > 0 && tag == "<!--" {
			t.Errorf("the page contains %q %d times", tag, n)
		}
	}
}

// A module that is forgotten in the list, or before one that it imports, would break the page.
func TestModulesAreInOrder(t *testing.T) {
	files, err := fs.Glob(sources, "*.js")
	if err != nil || len(files) != len(modules) {
		t.Fatalf("embedded modules: %v, %v; listed: %v", files, err, modules)
	}
	imports := regexp.MustCompile(`(?m)^import .* from "\./(.*)";$`)
	names := regexp.MustCompile(`(?m)^(?:export )?(?:async )?(?:const|let|class|function) (?:\{.*\}|(\w+))`)
	owner := map[string]string{}
	for i, name := range modules {
		source, err := sources.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range imports.FindAllSubmatch(source, -1) {
			if !slices.Contains(modules[:i], string(m[1])) {
				t.Errorf("%s imports %s, which is not listed before it", name, m[1])
			}
		}
		// Joined modules share one scope.
		for _, m := range names.FindAllSubmatch(source, -1) {
			if other := owner[string(m[1])]; other != "" {
				t.Errorf("%s and %s both declare %s", other, name, m[1])
			}
			owner[string(m[1])] = name
		}
		if bytes.Contains(source, []byte("`")) {
			t.Errorf("%s has a template literal, whose lines would lose their indentation", name)
		}
	}
}
