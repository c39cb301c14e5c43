package main

import (
	"os"
	"path/filepath"
)

// render writes the tables and charts into dir.
func render(r *results, dir string) error {
	files := map[string]string{"results.md": writePage(r)}
	for _, sc := range scenarios {
		if t := tableOf(r, sc); len(t.rows) > 0 {
			files[sc.name+".svg"] = scenarioChart(r, t)
		}
	}
	if coversOverview(r) {
		files["overview.svg"] = overviewChart(r)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := replaceFile(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// coversOverview reports whether there are figures of wsecho for every scenario in the README's
// chart.
func coversOverview(r *results) bool {
	for _, name := range overviewScenarios {
		if _, measured := tableNamed(r, name).find(ours); !measured {
			return false
		}
	}
	return true
}
