package main

import (
	"fmt"
	"os"
	"strings"
)

// bench writes the text between these two lines of README.md.
const (
	regionBegin = "<!-- benchmarks: what follows is written by make bench -->"
	regionEnd   = "<!-- benchmarks: end -->"
)

// replaceRegion returns the page with text in place of everything between the two lines.
func replaceRegion(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, regionBegin+"\n")
	if !found {
		return "", fmt.Errorf("has no line %q", regionBegin)
	}
	_, after, found := strings.Cut(rest, regionEnd)
	if !found {
		return "", fmt.Errorf("has no line %q after %q", regionEnd, regionBegin)
	}
	return before + regionBegin + "\n" + text + regionEnd + after, nil
}

func updateReadme(path string, r *results) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replaceRegion(string(page), "\n"+writeOverview(r)+"\n")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replaceFile(path, []byte(changed))
}
