package compile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/zonecast/zonecast/internal/dnswire"
)

var update = flag.Bool("update", false, "write what comes out into testdata/*.txtar")

func testEngine(t testing.TB, workers int) *engine {
	t.Helper()
	e, err := newEngine(1_000_000, workers, func(int, string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func changesOf(files []txtar.File) map[string]change {
	all := map[string]change{}
	for _, f := range files {
		if f.Name != "want" {
			all[f.Name] = change{text: string(f.Data)}
		}
	}
	return all
}

// show is a tree or its errors as text.
func show(t *tree, errs Errors) string {
	if len(errs) > 0 {
		return errs.Error() + "\n"
	}
	var sb strings.Builder
	for _, x := range t.exports {
		c := x.config
		fmt.Fprintf(&sb, "%s %s %s\n%s\n", c.Path, c.Type, c.Sources, c.JSON)
		for _, k := range c.Claims {
			fmt.Fprintf(&sb, "  %s %s%s", k.Source, k.Place, map[bool]string{true: " @" + string(k.Location)}[k.Location != ""])
			fmt.Fprintf(&sb, " %s\n", strings.ReplaceAll(strings.TrimSpace(dnswire.FormatRRset(k.RRset)), "\n", "\n    "))
		}
	}
	for _, p := range t.printed() {
		fmt.Fprintf(&sb, "%s: %s\n", p.Pos, p.Text)
	}
	return sb.String()
}

// TestTrees compiles the trees of testdata: what comes out, or the errors, stand in
// the file `want`.
func TestTrees(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e := testEngine(t, 2)
			tr, errs := e.compile(nil, changesOf(ar.Files))
			got := show(tr, errs)
			if errs == nil {
				for _, r := range e.test(tr) {
					got += fmt.Sprintf("test %s %s: %v\n", r.Pos, r.Name, r.Err)
					for _, p := range r.Printed {
						got += fmt.Sprintf("  %s: %s\n", p.Pos, p.Text)
					}
				}
			}
			last := len(ar.Files) - 1
			if last < 0 || ar.Files[last].Name != "want" {
				ar.Files = append(ar.Files, txtar.File{Name: "want"})
				last++
			}
			if *update {
				ar.Files[last].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(ar.Files[last].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
