package script

import (
	"os"
	"regexp"
	"testing"

	"go.starlark.net/starlark"
)

// TestDocumented holds that docs/rules.md has every function, and everything that a server has.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	names := append([]string{}, serverAttrs...)
	for name := range universe(starlark.NewDict(0)) {
		names = append(names, name)
	}
	for name := range testFunctions() {
		names = append(names, name)
	}
	for _, name := range names {
		if !regexp.MustCompile("`" + name + "[`(]").Match(page) {
			t.Errorf("%s is not in docs/rules.md", name)
		}
	}
}
