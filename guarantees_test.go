package zonecast_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesAreHeld demands that every test which the pages of docs/ name is there,
// and that each of the six guarantees of docs/design.md names some.
func TestGuaranteesAreHeld(t *testing.T) {
	text, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, guarantees, ok := strings.Cut(string(text), "## Guarantees\n")
	if !ok {
		t.Fatal("docs/design.md has no section Guarantees")
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err = fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	err = fs.WalkDir(os.DirFS("."), "docs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		page, err := os.ReadFile(path)
		for _, m := range named.FindAllStringSubmatch(string(page), -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is no test", path, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^\d\. \*\*`).Split(guarantees, -1)[1:]
	if len(parts) != 6 {
		t.Errorf("%d guarantees, expected the 6 of the design", len(parts))
	}
	for i, part := range parts {
		if len(named.FindAllString(part, -1)) < 3 {
			t.Errorf("guarantee %d names fewer than 3 tests", i+1)
		}
	}
}
